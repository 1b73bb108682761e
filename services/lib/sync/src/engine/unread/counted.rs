//! Unread counts that were worked out before: rows never change, so a count up to a row holds until one of them is redacted.

use std::{collections::BTreeMap, sync::Arc};

use polity_core::{Bucket, LogId, LogKey, Seq};
use polity_store::users::OwnReceipt;
use quick_cache::{Weighter, sync::Cache};
use ruma_common::OwnedEventId;

use super::tally::Tally;
use crate::{
    engine::{Unread, settings::Settings},
    metric,
};

/// Up to where a user has read a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Where the user's stretch in the room began.
    pub since: Seq,
    /// Everything: by a receipt without thread, or because the user wasn't in the room before.
    pub floor: Seq,
    /// The main timeline.
    main: Seq,
    /// Threads, by their roots.
    threads: BTreeMap<OwnedEventId, Seq>,
}

impl Read {
    /// What receipts say of a stretch that began at `since`: of several about the same, the greatest.
    pub(super) fn new<'a>(since: Seq, receipts: impl Iterator<Item = &'a OwnReceipt>) -> Self {
        let mut read = Self { since, floor: since, ..Self::default() };
        for OwnReceipt { position, thread, .. } in receipts {
            let place = match thread.as_str() {
                "" => &mut read.floor,
                "main" => &mut read.main,
                root => match OwnedEventId::try_from(root) {
                    Ok(root) => read.threads.entry(root).or_default(),
                    Err(_) => continue,
                },
            };
            *place = position.seq.max(*place);
        }
        read.threads.retain(|_, seq| *seq > read.floor);
        read
    }

    /// Up to where a thread (`None`: the main timeline) is read.
    pub(super) fn of(&self, thread: Option<&OwnedEventId>) -> Seq {
        let own = thread.map_or(Some(&self.main), |root| self.threads.get(root));
        own.copied().unwrap_or_default().max(self.floor)
    }

    /// Whether some thread is read up to a row within `first..last`, and not further: its rows count one by one then.
    pub(super) fn ends_within(&self, first: Seq, last: Seq) -> bool {
        self.threads.values().chain([&self.main]).any(|seq| (first..last).contains(seq))
    }

    /// The furthest place that it speaks of.
    pub(super) fn furthest(&self) -> Seq {
        self.threads.values().chain([&self.main]).fold(self.floor, |a, b| a.max(*b))
    }
}

/// What is unread of a room, by thread (`None`: the main timeline).
pub(super) type ByThread = BTreeMap<Option<OwnedEventId>, Unread>;

/// A room and a user, by the logs of both.
pub(super) type Place = (LogKey, LogId);

/// A count, and what it holds for.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    /// What the user had read.
    pub read: Read,
    /// What the user had set.
    pub settings: Arc<Settings>,
    /// Rows up to here are counted.
    pub up_to: Seq,
    /// The count.
    pub unread: ByThread,
}

/// Bytes of a count without threads, about, and of each of its threads.
const COUNT: u64 = 300;
const THREAD: u64 = 200;
/// Threads of a count that is kept. Who writes chooses how many there are (a root need not even exist); a count with more is made
/// anew from the tallies.
const THREADS: usize = 300;

impl Counted {
    /// Threads that it knows anything of.
    fn threads(&self) -> usize {
        self.read.threads.len() + self.unread.len()
    }
}

#[derive(Clone)]
struct BySize;

impl Weighter<Place, Arc<Counted>> for BySize {
    fn weight(&self, _name: &Place, counted: &Arc<Counted>) -> u64 {
        COUNT + THREAD * counted.threads() as u64
    }
}

impl Weighter<(LogKey, Bucket), Arc<Tally>> for BySize {
    fn weight(&self, _bucket: &(LogKey, Bucket), tally: &Arc<Tally>) -> u64 {
        tally.weight()
    }
}

/// The newest count of each user and room, for as many as fit, and the tallies of whole buckets. Nothing is lost with one that falls out.
pub struct UnreadCounts {
    counts: Cache<Place, Arc<Counted>, BySize>,
    tallies: Cache<(LogKey, Bucket), Arc<Tally>, BySize>,
}

impl UnreadCounts {
    /// Counts of `capacity` users in rooms, at some 300 bytes each (fewer where there are threads), and `bytes` of tallies.
    #[must_use]
    pub fn new(capacity: usize, bytes: u64) -> Self {
        let tallies = usize::try_from(bytes / 8192).unwrap_or(1024);
        let counts = Cache::with_weighter(capacity, COUNT * capacity as u64, BySize);
        Self { counts, tallies: Cache::with_weighter(tallies, bytes, BySize) }
    }

    pub(in crate::engine) fn tell_sizes(&self) {
        metric::entries("unread_counts", self.counts.len());
        metric::bytes("unread_counts", self.counts.weight());
        metric::bytes("unread_tallies", self.tallies.weight());
    }

    pub(super) fn get(&self, place: &Place) -> Option<Arc<Counted>> {
        self.counts.get(place)
    }

    pub(super) fn set(&self, place: Place, counted: Arc<Counted>) {
        if counted.threads() <= THREADS {
            self.counts.insert(place, counted);
        } else {
            self.counts.remove(&place);
        }
    }

    pub(super) fn tally(&self, name: &(LogKey, Bucket)) -> Option<Arc<Tally>> {
        self.tallies.get(name)
    }

    pub(super) fn keep_tally(&self, name: (LogKey, Bucket), tally: &Arc<Tally>) {
        self.tallies.insert(name, Arc::clone(tally));
    }
}
