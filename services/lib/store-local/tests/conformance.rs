//! The conformance suite on the embedded store, in memory and on disk.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_core::{ManualClock, SystemRandom, TenantId};
use polity_store::{
    Store,
    suite::{Backend, Sizes, Subject},
};
use polity_store_local::{LocalStore, Options};
use tempfile::TempDir;

struct Local {
    clock: Arc<ManualClock>,
    /// None in memory.
    folder: Option<TempDir>,
    /// Opened again: kept until the test ends.
    again: Mutex<Option<Arc<dyn Store>>>,
}

impl Local {
    fn open(&self) -> Arc<dyn Store> {
        let folder = self.folder.as_ref().expect("a store on disk").path().join("store");
        LocalStore::open(&folder, &Options::default(), Arc::clone(&self.clock) as _, &SystemRandom).expect("a store")
    }
}

#[async_trait]
impl Backend for Local {
    async fn reopen(&self) -> Arc<dyn Store> {
        let store = self.open();
        *self.again.lock() = Some(Arc::clone(&store));
        store
    }

    async fn pass(&self, seconds: u32) {
        self.clock.advance(Duration::from_secs(seconds.into()));
    }
}

fn subject(store: Arc<dyn Store>, backend: Local) -> Subject {
    Subject { store, backend: Arc::new(backend), tenant: TenantId::new(7), sizes: Sizes::default() }
}

async fn in_memory() -> Subject {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let store = LocalStore::memory(Arc::clone(&clock) as _, &SystemRandom).expect("a store");
    subject(store, Local { clock, folder: None, again: Mutex::default() })
}

async fn on_disk() -> Subject {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let local = Local { clock, folder: Some(tempfile::tempdir().expect("a folder")), again: Mutex::default() };
    subject(local.open(), local)
}

mod memory {
    polity_store::store_suite!(super::super::in_memory());
}

mod disk {
    polity_store::store_suite!(super::super::on_disk());
    polity_store::durable_store_suite!(super::super::on_disk());
}
