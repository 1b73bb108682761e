//! Unread counts that were worked out before: rows never change, so a count up to a row holds for ever.

use polity_core::{LogKey, Seq};
use quick_cache::sync::Cache;
use ruma_common::OwnedUserId;

use super::Unread;

/// A count, and what it holds for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Rows up to here were read by the user.
    pub base: Seq,
    /// Rows up to here are counted.
    pub up_to: Seq,
    /// How many redactions the room had: one more may take away from the count.
    pub redactions: u64,
    /// The count.
    pub unread: Unread,
}

/// The newest count of each user and room, for as many as fit. Nothing is lost with one that falls out.
pub struct UnreadCounts(Cache<(LogKey, OwnedUserId), Counted>);

impl UnreadCounts {
    /// Counts of `capacity` users in rooms, at some 200 bytes each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The count that new rows can be added to, if it is about the same past.
    pub(crate) fn get(&self, name: &(LogKey, OwnedUserId), base: Seq, redactions: u64, head: Seq) -> Option<Counted> {
        let counted = self.0.get(name)?;
        let holds = counted.base == base && counted.redactions == redactions && counted.up_to <= head;
        holds.then_some(counted)
    }

    pub(crate) fn set(&self, name: (LogKey, OwnedUserId), counted: Counted) {
        self.0.insert(name, counted);
    }
}

#[cfg(test)]
mod tests {
    use polity_core::{Life, LogId, TenantId};

    use super::*;

    #[test]
    fn a_count_is_used_only_for_the_past_that_it_was_made_of() {
        let counts = UnreadCounts::new(10);
        let user_id = OwnedUserId::try_from("@a:example.org").unwrap();
        let key =
            LogKey { tenant: TenantId::new(1), log: LogId::derived(TenantId::new(1), "room", "a"), life: Life::FIRST };
        let name = (key, user_id);
        let unread = Unread { notifications: 3, highlights: 1 };
        counts.set(name.clone(), Counted { base: Seq::new(5), up_to: Seq::new(9), redactions: 2, unread });
        let get = |base, redactions, head| counts.get(&name, Seq::new(base), redactions, Seq::new(head));
        assert_eq!(get(5, 2, 12).map(|counted| counted.unread.notifications), Some(3));
        assert!(get(6, 2, 12).is_none(), "the user has read on");
        assert!(get(5, 3, 12).is_none(), "something was redacted");
        assert!(get(5, 2, 8).is_none(), "a reader at an older head doesn't count what comes later");
    }
}
