//! The head map: the highest position known of each log, merged by max. Fed before an append is acknowledged, by what other processes
//! tell, and by reads; **absent means read, never unmoved**.
//!
//! Where other processes write, too, only a read makes a log known, and what is told of it raises what is known. What is told may be
//! old: it waited in the bus's queue, say, while newer news came by asking, and were forgotten with everything else. Believed of a log
//! that isn't known, it would hide the rows after it until the next one is written.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use polity_core::{
    LogId, Seq, TenantId,
    mutation::{Mutation, planted},
};
use quick_cache::sync::{Cache, EntryAction, EntryResult};

use crate::metric;

/// Counters of what overtakes reads. Several logs share one: another's move costs a read that wasn't needed, nothing else.
const COUNTERS: usize = 1 << 12;

/// Positions of logs. Bounded: what falls out is read again.
pub struct HeadMap {
    heads: Cache<(TenantId, LogId), Seq>,
    /// How often each log (and those that share its counter) moved.
    moves: Box<[AtomicU64]>,
    /// Whether every write passes through this process: then what it is told is never old.
    alone: bool,
    /// How often anything was forgotten. Held while a read is noted, so that what it read isn't noted after it was forgotten.
    forgotten: RwLock<u64>,
}

/// A read of a head that is about to be made. Whatever is told of the log meanwhile overtakes it: it may have seen less, and what was
/// told may have fallen out of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    moves: u64,
    forgotten: u64,
}

impl HeadMap {
    /// A map of at most `capacity` logs, of a process that is `alone` with its store or not.
    #[must_use]
    pub fn new(capacity: usize, alone: bool) -> Self {
        let moves = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { heads: Cache::new(capacity), moves, alone, forgotten: RwLock::new(0) }
    }

    pub(crate) fn tell_size(&self) {
        metric::entries("heads", self.heads.len());
    }

    /// The log has reached `seq` at least: its writer says so, now or a while ago. Never lowers what is known.
    pub fn moved(&self, tenant: TenantId, log: LogId, seq: Seq) {
        self.counter(log).fetch_add(1, Ordering::AcqRel);
        let entry = self.heads.entry(&(tenant, log), None, |_, known| {
            *known = if planted(Mutation::MapByLast) { seq } else { (*known).max(seq) };
            EntryAction::<()>::Retain(())
        });
        if let EntryResult::Vacant(guard) = entry
            && self.alone
        {
            // If it was evicted in between, it is merely read again.
            let _ = guard.insert(seq);
        }
    }

    /// Begins a read of a log's head. Call it before the store is asked.
    #[must_use]
    pub fn reading(&self, log: LogId) -> Reading {
        Reading { moves: self.counter(log).load(Ordering::Acquire), forgotten: *self.forgotten.read() }
    }

    /// A read has found the log at `seq`. Not noted if it was overtaken, unless more is known than it.
    pub fn read(&self, reading: Reading, tenant: TenantId, log: LogId, seq: Seq) {
        let forgotten = self.forgotten.read();
        let entry = self.heads.entry(&(tenant, log), None, |_, known| {
            *known = (*known).max(seq);
            EntryAction::<()>::Retain(())
        });
        // Who tells of a move counts it first and then waits for the guard.
        if let EntryResult::Vacant(guard) = entry
            && (planted(Mutation::OvertakenReadKept)
                || reading == (Reading { moves: self.counter(log).load(Ordering::Acquire), forgotten: *forgotten }))
        {
            let _ = guard.insert(seq);
        }
    }

    /// Somebody may have written to these logs who doesn't tell: what is known of them is nothing any more.
    pub fn forget(&self, logs: impl IntoIterator<Item = (TenantId, LogId)>) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        for log in logs {
            self.heads.remove(&log);
        }
    }

    /// The same of all logs.
    pub fn forget_all(&self) {
        let mut forgotten = self.forgotten.write();
        *forgotten += 1;
        self.heads.clear();
    }

    /// The highest position known, if any is.
    #[must_use]
    pub fn get(&self, tenant: TenantId, log: LogId) -> Option<Seq> {
        self.heads.get(&(tenant, log))
    }

    /// The ids of logs are random or hashes: any of their bytes will do.
    fn counter(&self, log: LogId) -> &AtomicU64 {
        let [a, b, ..] = log.as_bytes();
        &self.moves[usize::from(u16::from_be_bytes([*a, *b])) % COUNTERS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::new(1);
    const LOG: LogId = LogId::new([1; 16]);

    #[test]
    fn what_is_known_is_never_lowered_and_tenants_are_apart() {
        let map = HeadMap::new(100, true);
        assert_eq!(map.get(TENANT, LOG), None);
        for seq in [3, 7, 5] {
            map.moved(TENANT, LOG, Seq::new(seq));
        }
        assert_eq!(map.get(TENANT, LOG), Some(Seq::new(7)));
        assert_eq!(map.get(TenantId::new(2), LOG), None);
        map.read(map.reading(LOG), TENANT, LOG, Seq::new(6));
        assert_eq!(map.get(TENANT, LOG), Some(Seq::new(7)));
    }

    #[test]
    fn a_read_that_was_overtaken_is_not_noted() {
        // What overtook it has fallen out of the map.
        let map = HeadMap::new(100, true);
        let reading = map.reading(LOG);
        map.moved(TENANT, LOG, Seq::new(7));
        map.heads.remove(&(TENANT, LOG));
        map.read(reading, TENANT, LOG, Seq::new(5));
        assert_eq!(map.get(TENANT, LOG), None);
        // Or it was forgotten meanwhile.
        let other = LogId::new([2; 16]);
        for forget in [|map: &HeadMap| map.forget_all(), |map: &HeadMap| map.forget([(TENANT, LOG)])] {
            let readings = [(LOG, map.reading(LOG)), (other, map.reading(other))];
            forget(&map);
            for (log, reading) in readings {
                map.read(reading, TENANT, log, Seq::new(5));
                assert_eq!(map.get(TENANT, log), None);
            }
        }
        map.read(map.reading(LOG), TENANT, LOG, Seq::new(5));
        assert_eq!(map.get(TENANT, LOG), Some(Seq::new(5)));
    }

    #[test]
    fn old_news_make_no_log_known_that_others_write() {
        let map = HeadMap::new(100, false);
        map.read(map.reading(LOG), TENANT, LOG, Seq::new(7));
        map.moved(TENANT, LOG, Seq::new(10));
        assert_eq!(map.get(TENANT, LOG), Some(Seq::new(10)));
        map.forget_all();
        // They waited in a queue. (The tenth row's news were lost by the bus, and won't be told again.)
        map.moved(TENANT, LOG, Seq::new(8));
        assert_eq!(map.get(TENANT, LOG), None, "the log has ten rows");
        map.read(map.reading(LOG), TENANT, LOG, Seq::new(10));
        map.moved(TENANT, LOG, Seq::new(9));
        assert_eq!(map.get(TENANT, LOG), Some(Seq::new(10)));
    }

    #[test]
    fn what_is_forgotten_is_absent() {
        let map = HeadMap::new(100, true);
        let other = LogId::new([2; 16]);
        for log in [LOG, other] {
            map.moved(TENANT, log, Seq::new(1));
        }
        map.forget([(TENANT, LOG)]);
        assert_eq!((map.get(TENANT, LOG), map.get(TENANT, other)), (None, Some(Seq::new(1))));
        map.forget_all();
        assert_eq!(map.get(TENANT, other), None);
    }
}
