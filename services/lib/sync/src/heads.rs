//! The head map: the highest position known of each log, merged by max. Fed before an append is acknowledged, and by reads;
//! **absent means read, never unmoved**.

use polity_core::{LogId, Seq, TenantId};
use quick_cache::sync::{Cache, EntryAction, EntryResult};

use crate::metric;

/// Positions of logs. Bounded: what falls out is read again.
pub struct HeadMap {
    heads: Cache<(TenantId, LogId), Seq>,
}

impl HeadMap {
    /// A map of at most `capacity` logs.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { heads: Cache::new(capacity) }
    }

    pub(crate) fn tell_size(&self) {
        metric::entries("heads", self.heads.len());
    }

    /// The log has reached `seq` at least. Never lowers what is known.
    pub fn moved(&self, tenant: TenantId, log: LogId, seq: Seq) {
        let entry = self.heads.entry(&(tenant, log), None, |_, known| {
            *known = (*known).max(seq);
            EntryAction::<()>::Retain(())
        });
        if let EntryResult::Vacant(guard) = entry {
            // If it was evicted in between, it is merely read again.
            let _ = guard.insert(seq);
        }
    }

    /// The highest position known, if any is.
    #[must_use]
    pub fn get(&self, tenant: TenantId, log: LogId) -> Option<Seq> {
        self.heads.get(&(tenant, log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_never_lowered_and_tenants_are_apart() {
        let map = HeadMap::new(100);
        let (tenant, log) = (TenantId::new(1), LogId::new([1; 16]));
        assert_eq!(map.get(tenant, log), None);
        for seq in [3, 7, 5] {
            map.moved(tenant, log, Seq::new(seq));
        }
        assert_eq!(map.get(tenant, log), Some(Seq::new(7)));
        assert_eq!(map.get(TenantId::new(2), log), None);
    }
}
