//! A store that counts its reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use polity_store::{Bounds, Consistency, Page, Row, Store, StoreError, Table, Values, Wrap};

/// See the module.
pub(crate) struct CountedStore {
    inner: Arc<dyn Store>,
    reads: AtomicU64,
}

impl CountedStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, reads: AtomicU64::new(0) })
    }

    /// How many reads there were since this was asked last.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl Wrap for CountedStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get(table, partition, key, consistency).await
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.scan(table, partition, bounds, limit, consistency).await
    }
}
