//! The store of a server that doesn't run.

use std::{path::Path, sync::Arc};

use polity_core::{Clock, SystemClock, SystemRandom};
use polity_store::Store;
use polity_store_local::{LocalStore, Options};

use crate::Sandbox;

/// That of a sandbox's server, which can start again once this is dropped.
///
/// # Panics
/// When it runs, or never did.
#[must_use]
pub fn store(sandbox: &Sandbox) -> Arc<dyn Store> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let path = sandbox.folder().join(Path::new("data/store"));
    LocalStore::open(&path, &Options::default(), clock, &SystemRandom).expect("its store")
}
