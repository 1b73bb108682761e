//! How much a user keeps that has no end of its own (account data, signatures on keys): an entry of the record, set in the same row
//! as what it counts.

use serde::{Deserialize, Serialize};

use super::{Change, Entry, kind};

/// Entries that a user keeps: values of account data, of all rooms together, and users whose keys were signed.
const ENTRIES: u64 = 10_000;
/// Bytes of them, with their names.
const BYTES: u64 = 8 << 20;

/// The name of the entry.
pub(super) const NAME: (&str, &str, &str) = (kind::USAGE, "", "");

/// What is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    entries: u64,
    bytes: u64,
}

/// Whether a change is of an entry that counts.
pub(super) fn counts(change: &Change) -> bool {
    matches!(change.kind.as_str(), kind::ACCOUNT_DATA | kind::SIGNATURES)
}

impl Usage {
    /// What one entry takes.
    fn of(scope: &str, key: &str, value: Option<&[u8]>) -> Self {
        let bytes = |value: &[u8]| (scope.len() + key.len() + value.len()) as u64;
        value.map_or_else(Self::default, |value| Self { entries: 1, bytes: bytes(value) })
    }

    /// With an entry set anew; `None` if that is more than a user may keep. What takes no more than before always may be set.
    pub(super) fn with(self, change: &Change, before: Option<&Entry>) -> Option<Self> {
        let Change { scope, key, value, .. } = change;
        let new = Self::of(scope, key, value.as_deref());
        let old = Self::of(scope, key, before.and_then(|entry| entry.value.as_deref()));
        let sum = |kept: u64, old: u64, new: u64| kept.saturating_sub(old).saturating_add(new);
        let (entries, bytes) = (sum(self.entries, old.entries, new.entries), sum(self.bytes, old.bytes, new.bytes));
        let more = new.entries > old.entries && entries > ENTRIES || new.bytes > old.bytes && bytes > BYTES;
        (!more).then_some(Self { entries, bytes })
    }
}

#[cfg(test)]
mod tests {
    use polity_core::Seq;

    use super::*;

    fn change(value: Option<&str>) -> Change {
        Change::new(kind::ACCOUNT_DATA, "!r", "t", value.map(|value| value.as_bytes().to_vec()))
    }

    fn before(value: &str) -> Entry {
        Entry { scope: "!r".into(), key: "t".into(), value: Some(value.as_bytes().to_vec()), seq: Seq::ZERO }
    }

    #[test]
    fn what_is_set_counts_once_and_what_goes_no_more() {
        let one = Usage::default().with(&change(Some("four")), None).unwrap();
        assert_eq!(one, Usage { entries: 1, bytes: 7 });
        let other = one.with(&change(Some("is")), Some(&before("four"))).unwrap();
        assert_eq!(other, Usage { entries: 1, bytes: 5 });
        assert_eq!(other.with(&change(None), Some(&before("is"))), Some(Usage::default()));
    }

    #[test]
    fn there_is_an_end_and_who_is_there_can_still_set_what_takes_no_more() {
        let full = Usage { entries: ENTRIES, bytes: 100 };
        assert_eq!(full.with(&change(Some("")), None), None);
        assert!(full.with(&change(Some("more")), Some(&before(""))).is_some());
        let full = Usage { entries: 1, bytes: BYTES };
        assert_eq!(full.with(&change(Some("")), None), None);
        assert_eq!(full.with(&change(Some("more")), Some(&before("old"))), None);
        assert!(full.with(&change(Some("new")), Some(&before("old"))).is_some());
        assert!(full.with(&change(None), Some(&before("old"))).is_some());
    }
}
