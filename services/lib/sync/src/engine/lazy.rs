//! Members that a device was sent already, where it loads them lazily. A memory only: whatever is forgotten is sent again.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use polity_core::{LogId, Seq};
use quick_cache::{
    Weighter,
    sync::{Cache, EntryAction, EntryResult},
};
use ruma_common::{EventId, OwnedEventId};
use smallvec::SmallVec;

/// Members remembered per device and room; with more, it begins anew.
const MEMBERS: usize = 2000;

/// Places that are remembered per device and room: more answers than that in a row don't get lost.
const PLACES: usize = 4;

/// A device by its inbox, and a room.
type Pair = (LogId, LogId);

/// Member events, by a hash.
type Members = Arc<BTreeSet<u64>>;

/// What a device has, by the place in the room up to which it knows it: what an answer sent that got lost isn't there for who asks
/// again from the place before.
type Places = SmallVec<[(Seq, Members); 2]>;

/// See the module.
pub struct SentMembers {
    sent: Cache<Pair, Places, BySize>,
    hasher: RandomState,
}

#[derive(Clone)]
struct BySize;

impl Weighter<Pair, Places> for BySize {
    fn weight(&self, _pair: &Pair, places: &Places) -> u64 {
        128 + places.iter().map(|(_, members)| 64 + 12 * members.len() as u64).sum::<u64>()
    }
}

impl SentMembers {
    /// At most so many bytes of them.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 256).unwrap_or(1024);
        Self { sent: Cache::with_weighter(items, bytes, BySize), hasher: RandomState::new() }
    }

    /// Those of `members` that a device doesn't have at a place (`None`: it has none); noted as sent for the place where it comes to.
    pub(super) fn unsent(
        &self,
        pair: (LogId, LogId),
        step: (Option<Seq>, Seq),
        members: impl Iterator<Item = OwnedEventId>,
    ) -> Vec<OwnedEventId> {
        let members: Vec<_> = members.map(|id| (self.hash(&id), id)).collect();
        let known = self.sent.entry(&pair, None, |_, places| EntryAction::Retain(take_step(places, step, &members)));
        match known {
            EntryResult::Retained(unsent) => unsent,
            EntryResult::Vacant(place) => {
                let mut places = Places::new();
                let unsent = take_step(&mut places, step, &members);
                // If it is evicted at once, they are merely sent again.
                let _ = place.insert(places);
                unsent
            }
            EntryResult::Removed(..) | EntryResult::Replaced(..) | EntryResult::Timeout => {
                members.into_iter().map(|(_, id)| id).collect()
            }
        }
    }

    fn hash(&self, event_id: &EventId) -> u64 {
        self.hasher.hash_one(event_id.as_str())
    }
}

/// See [`SentMembers::unsent`].
fn take_step(
    places: &mut Places,
    (from, to): (Option<Seq>, Seq),
    members: &[(u64, OwnedEventId)],
) -> Vec<OwnedEventId> {
    let at = |places: &Places, seq| places.iter().position(|(place, _)| *place == seq);
    let had = from.and_then(|from| at(places, from)).map(|at| Arc::clone(&places[at].1)).unwrap_or_default();
    let mut new = BTreeSet::new();
    let unsent = members.iter().filter(|(hash, _)| !had.contains(hash) && new.insert(*hash));
    let unsent: Vec<_> = unsent.map(|(_, id)| id.clone()).collect();
    let has = match (new.is_empty(), had.len() + new.len() > MEMBERS) {
        (true, _) => had,
        (false, true) => Arc::new(new),
        (false, false) => Arc::new(had.union(&new).copied().collect()),
    };
    // Who asks from a place won't ask from one before it.
    places.retain(|(place, _)| from.is_none_or(|from| *place >= from));
    match at(places, to) {
        // Two answers that end in one place: the device got one of them, so it has for certain what both sent.
        Some(at) if places[at].1 == has => {}
        Some(at) => places[at].1 = Arc::new(has.intersection(&places[at].1).copied().collect()),
        None => {
            if places.len() == PLACES {
                places.remove(0);
            }
            places.push((to, has));
        }
    }
    unsent
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
