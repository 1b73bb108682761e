//! What a whole bucket of rows counts, for everybody at once: rows never change, so it is worked out once and kept, and the count of a
//! user who was away for long is a sum over buckets, not over rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use polity_core::Seq;
use ruma_common::{OwnedEventId, OwnedUserId};

use super::counts::{Counting, mentioned};
use crate::{engine::Unread, read::StoredRow};

/// What some rows count, by thread (`None`: the main timeline).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    threads: HashMap<Option<OwnedEventId>, Thread>,
    /// Which of the rows were redacted when it was made.
    pub redacted: BTreeSet<Seq>,
    weight: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Thread {
    /// What counts for everybody.
    all: Unread,
    /// Of that, what each has sent: it doesn't count for the sender, nor for who ignores the sender.
    by_sender: HashMap<OwnedUserId, Unread>,
    /// Rows that mention a user, by the user and the sender: what they count beyond `all`.
    mentions: HashMap<String, BTreeMap<OwnedUserId, Unread>>,
}

impl Tally {
    /// The tally of `rows`, each with whether it highlights for everybody, without the redacted ones.
    pub(super) fn new<'a>(rows: impl Iterator<Item = (&'a StoredRow, bool)>, redacted: BTreeSet<Seq>) -> Self {
        let mut tally = Self { threads: HashMap::new(), weight: 256 + 16 * redacted.len() as u64, redacted };
        for (row, rings) in rows {
            if !tally.redacted.contains(&row.seq) {
                tally.add(row, rings);
            }
        }
        tally
    }

    fn add(&mut self, row: &StoredRow, rings: bool) {
        let Some(event) = &row.event else { return };
        let mentioned = mentioned(row);
        if !row.meta.notifies && mentioned.is_empty() {
            return;
        }
        let thread = self.threads.entry(row.meta.thread.clone()).or_default();
        let all = if row.meta.notifies {
            Unread { notifications: 1, highlights: u64::from(rings) }
        } else {
            Unread::default()
        };
        thread.all += all;
        *thread.by_sender.entry(event.sender.clone()).or_default() += all;
        self.weight += 96;
        let beyond = Unread { notifications: 1 - all.notifications, highlights: 1 - all.highlights };
        for user in mentioned.into_iter().collect::<BTreeSet<_>>() {
            *thread.mentions.entry(user).or_default().entry(event.sender.clone()).or_default() += beyond;
            self.weight += 192;
        }
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// What it counts for a user, by thread.
    pub(super) fn of<'a>(
        &'a self,
        counting: Counting<'a>,
    ) -> impl Iterator<Item = (&'a Option<OwnedEventId>, Unread)> + 'a {
        self.threads.iter().map(move |(root, thread)| (root, thread.of(counting)))
    }
}

impl Thread {
    fn of(&self, counting: Counting<'_>) -> Unread {
        let mut unread = self.all;
        let mut without = |sent: Option<&Unread>| {
            let sent = sent.copied().unwrap_or_default();
            unread.notifications -= sent.notifications;
            unread.highlights -= sent.highlights;
        };
        without(self.by_sender.get(counting.user_id));
        let ignored = counting.settings.ignored.iter().filter(|user| *user != counting.user_id);
        ignored.for_each(|user| without(self.by_sender.get(user)));
        for (sender, beyond) in self.mentions.get(counting.user_id.as_str()).into_iter().flatten() {
            if sender != counting.user_id && !counting.settings.ignores(sender) {
                unread += *beyond;
            }
        }
        unread
    }
}
