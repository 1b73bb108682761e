//! What this process tells others of its writes, and how it learns of theirs. One that is alone does neither.

use std::sync::Arc;

use polity_bus::Bus;
use polity_cluster::{
    Connect,
    digest::{Flush, Follow, Journal, Writers, publish},
};
use polity_core::IncarnationId;
use polity_log::{Moved, Registry};
use polity_platform::lifecycle::Lifecycle;
use polity_store::{MarkedStore, Marks, Store};
use polity_sync::{follow::Heard, heads::HeadMap};
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module.
pub(crate) struct Digests {
    journal: Arc<Journal>,
    /// Whether there may be others.
    shared: bool,
    /// Goes on until the last request is answered, which is later than the end begins.
    end: CancellationToken,
    _ends: DropGuard,
}

// === impl Digests ===

impl Digests {
    /// Those of a process that shares its store, or doesn't.
    pub(crate) fn new(incarnation: IncarnationId, shared: bool) -> Self {
        let end = CancellationToken::new();
        Self { journal: Journal::new(incarnation), shared, _ends: end.clone().drop_guard(), end }
    }

    /// For who asks what was written here.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Tells others what was written last, as long as they can still ask for it.
    pub(crate) fn tell_last(&self, bus: &dyn Bus) {
        if let Some(journal) = self.told() {
            journal.tell_last(bus);
        }
    }

    /// Nothing is written any more: with which entry the journal ends.
    pub(crate) fn end(&self) -> Option<u64> {
        self.told().and_then(|journal| journal.end())
    }

    fn told(&self) -> Option<Arc<Journal>> {
        self.shared.then(|| Arc::clone(&self.journal))
    }

    /// The store, whose writes are told.
    pub(crate) fn marked(&self, store: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<Marks>) {
        MarkedStore::telling(store, self.told().map(|journal| journal as _))
    }

    /// Who hears of appends.
    pub(crate) fn moved(&self, heads: &Arc<HeadMap>) -> Arc<dyn Moved> {
        Arc::new(Heard { heads: Arc::clone(heads), journal: self.told() })
    }

    /// Tells others, and `own` if anybody waits here for news.
    pub(crate) fn tell(&self, bus: &Arc<dyn Bus>, own: Option<Arc<dyn Follow>>, life: &Lifecycle) {
        if let Some(journal) = self.told() {
            let (bus, end) = (Arc::clone(bus), self.end.clone());
            life.essential("digests", async move {
                tokio::select! { () = end.cancelled() => {}, () = publish(journal, bus, own) => {} }
            });
        }
    }

    /// Follows others, if there may be any, for who reads here.
    pub(crate) fn follow<F: Follow>(
        &self,
        (registry, bus): (&Arc<Registry>, &Arc<dyn Bus>),
        connect: Arc<dyn Connect>,
        known: impl FnOnce() -> Arc<F>,
        life: &Lifecycle,
    ) -> (Writers, Option<Arc<F>>) {
        if !self.shared {
            return (Writers::none(), None);
        }
        let known = known();
        let flush = Flush::new(Arc::clone(registry), connect, Arc::clone(&known) as _);
        let (following, bus, end) = (Arc::clone(&flush), Arc::clone(bus), self.end.clone());
        life.essential("flush", async move {
            tokio::select! { () = end.cancelled() => {}, () = following.run(&*bus) => {} }
        });
        (Writers::asked_by(flush), Some(known))
    }
}
