//! A store that counts its reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use polity_core::IncarnationId;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Page, Row, Store, StoreError, Table, Values, Write,
};

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
impl Store for CountedStore {
    fn incarnation(&self) -> IncarnationId {
        self.inner.incarnation()
    }

    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.inner.cas(table, partition, condition, changes).await
    }

    async fn put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.inner.put(writes, durability).await
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get(table, partition, key, consistency).await
    }

    async fn scan(
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

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        self.inner.drop_partition(table, partition).await
    }
}
