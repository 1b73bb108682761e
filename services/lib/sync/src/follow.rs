//! What this process knows of writes elsewhere: how far logs have come, what was read and still holds, and who waits for it.

use std::sync::Arc;

use polity_bus::{SubjectKind, not_understood};
use polity_cluster::digest::{Entry, Follow, Journal};
use polity_core::{
    LogId, LogKey, Seq, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::Moved;
use polity_store::Marks;

use crate::{heads::HeadMap, live::Interest, read::StoredRow};

/// See the module. It follows other processes; alone it is of no use.
pub struct Known {
    /// How far logs have come.
    pub heads: Arc<HeadMap>,
    /// Which partitions of users were written.
    pub marks: Arc<Marks>,
    /// Who waits.
    pub interest: Arc<Interest<StoredRow>>,
}

/// Hears of this process's appends before they are acknowledged: its own head map does, and so do others.
pub struct Heard {
    /// How far logs have come.
    pub heads: Arc<HeadMap>,
    /// What others are told, if there may be any.
    pub journal: Option<Arc<Journal>>,
}

impl Moved for Heard {
    fn moved(&self, key: LogKey, seq: Seq) {
        self.heads.moved(key.tenant, key.log, seq);
        if let Some(journal) = &self.journal {
            journal.moved(key, seq);
        }
    }
}

impl Follow for Known {
    fn others(&self, entries: &[Entry]) {
        for entry in entries {
            match *entry {
                Entry::Head { tenant, log, seq } => self.heads.moved(tenant, log, seq),
                Entry::Mark(_) if planted(Mutation::MarkUnmoved) => {}
                Entry::Mark(place) => self.marks.moved_at(place),
                Entry::Later(_) => not_understood(SubjectKind::Digest),
            }
        }
        self.interest.written(entries);
    }

    fn own(&self, entries: &[Entry]) {
        self.interest.written(entries);
    }

    fn forget(&self, logs: &[(TenantId, LogId)]) {
        self.marks.distrust();
        self.heads.forget(logs.iter().copied());
    }

    fn forget_all(&self) {
        self.marks.distrust();
        self.heads.forget_all();
    }
}
