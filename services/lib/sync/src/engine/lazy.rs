//! Members that a device was sent already, where it loads them lazily. A memory only: whatever is forgotten is sent again.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use polity_core::{LogId, Seq};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{EventId, OwnedEventId};

/// Members remembered per device and room; with more, it begins anew.
const MEMBERS: usize = 2000;

/// A device by its inbox, a room, and the place in it up to which the device knows it: what an answer sent that got lost isn't
/// there for who asks again from the place before.
type Place = (LogId, LogId, Seq);

/// Member events, by a hash.
type Members = Arc<BTreeSet<u64>>;

/// See the module.
pub struct SentMembers {
    places: Cache<Place, Members, BySize>,
    hasher: RandomState,
}

#[derive(Clone)]
struct BySize;

impl Weighter<Place, Members> for BySize {
    fn weight(&self, _place: &Place, members: &Members) -> u64 {
        128 + 12 * members.len() as u64
    }
}

impl SentMembers {
    /// At most so many bytes of them.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 256).unwrap_or(1024);
        Self { places: Cache::with_weighter(items, bytes, BySize), hasher: RandomState::new() }
    }

    /// Those of `members` that a device doesn't have at a place (`None`: it has none); noted as sent for the place where it comes to.
    pub(super) fn unsent(
        &self,
        (device, room): (LogId, LogId),
        (from, to): (Option<Seq>, Seq),
        members: impl Iterator<Item = OwnedEventId>,
    ) -> Vec<OwnedEventId> {
        let had = from.and_then(|from| self.places.get(&(device, room, from))).unwrap_or_default();
        let mut new = BTreeSet::new();
        let unsent = members.filter(|id| {
            let hash = self.hash(id);
            !had.contains(&hash) && new.insert(hash)
        });
        let unsent: Vec<_> = unsent.collect();
        let has = match (new.is_empty(), had.len() + new.len() > MEMBERS) {
            (true, _) => had,
            (false, true) => Arc::new(new),
            (false, false) => Arc::new(had.union(&new).copied().collect()),
        };
        // Two answers that end in one place: the device got one of them, so it has for certain what both sent.
        let has = match self.places.get(&(device, room, to)) {
            Some(other) if *other != *has => Arc::new(has.intersection(&other).copied().collect()),
            _ => has,
        };
        self.places.insert((device, room, to), has);
        unsent
    }

    fn hash(&self, event_id: &EventId) -> u64 {
        self.hasher.hash_one(event_id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(sent: &SentMembers, from: Option<u64>, to: u64, members: &[&str]) -> Vec<String> {
        let place = (LogId::new([1; 16]), LogId::new([2; 16]));
        let members = members.iter().map(|id| OwnedEventId::try_from(*id).unwrap());
        let unsent = sent.unsent(place, (from.map(Seq::new), Seq::new(to)), members);
        unsent.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_member_is_sent_once_and_again_to_who_did_not_get_the_answer() {
        let sent = SentMembers::new(1 << 20);
        assert_eq!(unsent(&sent, None, 5, &["$a", "$b", "$a"]), ["$a", "$b"]);
        assert_eq!(unsent(&sent, Some(5), 7, &["$a", "$c"]), ["$c"]);
        assert_eq!(unsent(&sent, Some(5), 8, &["$c"]), ["$c"], "from 5 again: the answer up to 7 was lost");
        assert_eq!(unsent(&sent, Some(8), 9, &["$a", "$b", "$c"]), [""; 0]);
        assert_eq!(unsent(&sent, None, 9, &["$b"]), ["$b"]);
        assert_eq!(unsent(&sent, Some(9), 10, &["$b", "$c"]), ["$c"], "only what all answers up to 9 sent");
    }
}
