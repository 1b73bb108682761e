//! The conformance suite: what every backend must do, as plain functions over a store. A backend's tests list them with
//! [`store_suite!`](crate::store_suite) and, where the store outlives its process, [`durable_store_suite!`](crate::durable_store_suite).
//!
//! Nothing here rests on what only one process or an embedded store can do: every function has partitions of its own, reads are
//! paged, counts come from [`Sizes`], and time passes only through [`Backend::pass`].

pub mod batches;
pub mod durable;
pub mod heads;
pub mod limits;
mod list;
pub mod paging;
pub mod plain;
pub mod projections;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use polity_core::{LogId, TenantId};

use crate::Store;

/// How much each function does. The defaults are for a local store; a store across a network may take fewer.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Rounds in which writers race for one head.
    pub rounds: usize,
    /// Rows of the partitions that are paged through.
    pub rows: usize,
    /// Writers at once.
    pub writers: usize,
    /// Writes of each of them.
    pub writes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { rounds: 1000, rows: 100_000, writers: 32, writes: 50 }
    }
}

/// What a backend gives beside its store.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Ends the store without a farewell, as far as that can be done within a process, and opens it again.
    async fn reopen(&self) -> Arc<dyn Store>;

    /// Lets this many seconds pass for the store's clock.
    async fn pass(&self, seconds: u32);
}

/// What a function of the suite works on.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What belongs to it.
    pub backend: Arc<dyn Backend>,
    /// A tenant (and the next few thousand numbers) that nothing else uses.
    pub tenant: TenantId,
    /// How much to do.
    pub sizes: Sizes,
}

impl Subject {
    /// A log of this subject's own.
    fn log(&self, number: u8) -> LogId {
        let mut id = [number; 16];
        id[..8].copy_from_slice(&self.tenant.get().to_be_bytes());
        LogId::new(id)
    }
}
