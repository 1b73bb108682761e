//! The store of servers that don't run.

use std::{path::Path, sync::Arc};

use polity_core::{Clock, LogId, SystemClock, SystemRandom, TenantId};
use polity_store::Store;
use polity_store_local::{LocalStore, Options};

use crate::Sandbox;

/// The name of the servers that tests start.
const SERVER: &str = "polity.test";

/// See the module. A sandbox's server can start again once this is dropped.
pub struct Stopped {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The tenant of the configuration.
    pub tenant: TenantId,
}

impl Stopped {
    /// That of a sandbox's server.
    ///
    /// # Panics
    /// When it runs, or never did.
    #[must_use]
    pub fn of(sandbox: &Sandbox) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let path = sandbox.folder().join(Path::new("data/store"));
        Self::at(LocalStore::open(&path, &Options::default(), clock, &SystemRandom).expect("its store"))
    }

    /// That of whatever servers used this store.
    #[must_use]
    pub fn at(store: Arc<dyn Store>) -> Self {
        let id = LogId::derived(TenantId::new(0), "tenant", SERVER);
        let id = id.as_bytes().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        Self { store, tenant: TenantId::new(id) }
    }
}
