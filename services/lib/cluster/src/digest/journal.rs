//! What this process has written lately, numbered.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use polity_bus::{Bus, Subject};
use polity_core::{
    IncarnationId, LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_log::Moved;
use polity_proto::cluster::PullResponse;
use polity_store::{MarkMoved, MarkPlace};
use tokio::time::MissedTickBehavior;

use super::{Digest, Entry, Follow};

/// Entries that are kept: whoever is further behind begins anew, and reads. Some 5 MiB.
const KEPT: usize = if cfg!(test) { 64 } else { 1 << 17 };
/// Entries told at once, at some 25 bytes each.
pub(super) const AT_ONCE: usize = if cfg!(test) { 8 } else { 8192 };
/// How often others are told, if anything moved.
const TELLS: Duration = Duration::from_millis(250);
/// If nothing moved they are told so after so many times.
const QUIET: u32 = 4;

/// See the module.
#[derive(Debug)]
pub struct Journal {
    incarnation: IncarnationId,
    /// How many entries are kept.
    kept: usize,
    written: Mutex<Written>,
    /// Writes that may still land.
    owed: AtomicUsize,
}

#[derive(Debug)]
struct Written {
    /// The number of the oldest entry that is kept.
    first: u64,
    entries: VecDeque<Entry>,
    /// Nothing is written any more.
    ended: bool,
}

/// What the journal has after a number.
#[derive(Debug)]
pub(super) struct Part {
    /// The next entries; not more than are told at once.
    pub(super) digest: Digest,
    /// The number of the newest entry.
    pub(super) last: u64,
    /// Some of the entries in between aren't kept any more; none are given then.
    pub(super) lost: bool,
}

impl Journal {
    /// The journal of a process that has written nothing yet.
    #[must_use]
    pub fn new(incarnation: IncarnationId) -> Arc<Self> {
        Self::keeping(incarnation, KEPT)
    }

    /// The same, which keeps so many entries.
    #[must_use]
    pub fn keeping(incarnation: IncarnationId, kept: usize) -> Arc<Self> {
        Arc::new(Self {
            incarnation,
            kept,
            written: Mutex::new(Written { first: 1, entries: VecDeque::new(), ended: false }),
            owed: AtomicUsize::new(0),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn incarnation(&self) -> IncarnationId {
        self.incarnation
    }

    /// Notes a write that has ended and isn't answered yet.
    pub fn note(&self, entry: Entry) {
        if planted(Mutation::NotTold) {
            return;
        }
        let mut written = self.written.lock();
        if written.ended {
            tracing::error!(?entry, "something was written after the end, and nobody is told of it");
        }
        if written.entries.len() >= self.kept {
            written.entries.pop_front();
            written.first += 1;
        }
        written.entries.push_back(entry);
    }

    /// Ends it: this process writes nothing any more. The number of the last entry; none if writes may still land of which nobody
    /// will be told.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let mut written = self.written.lock();
        written.ended = true;
        (self.owed.load(Ordering::Relaxed) == 0).then(|| written.last())
    }

    /// Tells others the newest entries once more, before this process can't be asked any more.
    pub fn tell_last(&self, bus: &dyn Bus) {
        let last = self.written.lock().last();
        let Part { digest, .. } = self.after(last.saturating_sub(AT_ONCE as u64));
        bus.publish(Subject::DIGESTS, digest.encode());
    }

    /// What is told of it to who asks for what comes after `after`.
    pub(crate) fn pulled(&self, after: u64) -> PullResponse {
        let Part { digest, last, lost } = self.after(after);
        PullResponse { last, lost, digest: digest.encode() }
    }

    pub(super) fn after(&self, after: u64) -> Part {
        let written = self.written.lock();
        let last = written.last();
        let lost = after < written.first - 1 || after > last;
        let (first, entries) = if lost {
            (last + 1, Vec::new())
        } else {
            let skip = usize::try_from(after + 1 - written.first).unwrap_or(usize::MAX);
            (after + 1, written.entries.iter().skip(skip).take(AT_ONCE).copied().collect())
        };
        Part { digest: Digest { incarnation: self.incarnation, first, entries }, last, lost }
    }
}

impl Written {
    /// The number of the newest entry.
    fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }
}

impl Moved for Journal {
    fn moved(&self, key: LogKey, seq: Seq) {
        self.note(Entry::Head { tenant: key.tenant, log: key.log, seq });
    }
}

impl MarkMoved for Journal {
    fn marked(&self, place: MarkPlace) {
        self.note(Entry::Mark(place));
    }

    fn owed(&self, count: usize) {
        self.owed.store(count, Ordering::Relaxed);
    }
}

/// Tells others by the bus what this process writes, and `own`, if it reads as well: whoever waits here for news may have lost them
/// as they do elsewhere. Runs until it is dropped.
pub async fn publish(journal: Arc<Journal>, bus: Arc<dyn Bus>, own: Option<Arc<dyn Follow>>) {
    let mut ticks = tokio::time::interval(TELLS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut quiet) = (0, 0);
    loop {
        ticks.tick().await;
        loop {
            let Part { digest, last, lost } = journal.after(told);
            told = if lost { last } else { digest.last() };
            let nothing = digest.entries.is_empty() && !lost;
            quiet = if nothing { quiet + 1 } else { 0 };
            if nothing && quiet < QUIET {
                break;
            }
            bus.publish(Subject::DIGESTS, digest.encode());
            if let Some(own) = &own {
                own.own(&digest.entries);
            }
            if told == last {
                quiet = 0;
                break;
            }
        }
    }
}
