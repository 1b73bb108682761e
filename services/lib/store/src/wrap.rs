//! A store before another one: what it doesn't do itself it passes on.

use std::pin::Pin;

use async_trait::async_trait;
use polity_core::IncarnationId;

use crate::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Page, Row, Store, StoreError, Table, Values, Write,
};

/// Stands before a store and is one itself. Each operation is passed on unless it is written anew.
#[async_trait]
pub trait Wrap: Send + Sync + 'static {
    /// The store behind.
    fn inner(&self) -> &dyn Store;

    /// See [`Store::cas`].
    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.inner().cas(table, partition, condition, changes).await
    }

    /// See [`Store::put`].
    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.inner().put(writes, durability).await
    }

    /// See [`Store::get`].
    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.inner().get(table, partition, key, consistency).await
    }

    /// See [`Store::scan`].
    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.inner().scan(table, partition, bounds, limit, consistency).await
    }

    /// See [`Store::drop_partition`].
    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        self.inner().drop_partition(table, partition).await
    }
}

type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// As `async_trait` would have it, but that the futures are passed on as they are and not put into boxes again.
impl<W: Wrap> Store for W {
    fn incarnation(&self) -> IncarnationId {
        self.inner().incarnation()
    }

    fn cas<'a, 'b>(
        &'a self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Doing<'b, Cas>
    where
        'a: 'b,
    {
        self.on_cas(table, partition, condition, changes)
    }

    fn put<'a, 'b>(&'a self, writes: Vec<Write>, durability: Durability) -> Doing<'b, ()>
    where
        'a: 'b,
    {
        self.on_put(writes, durability)
    }

    fn get<'a, 'b>(
        &'a self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Doing<'b, Option<Row>>
    where
        'a: 'b,
    {
        self.on_get(table, partition, key, consistency)
    }

    fn scan<'a, 'b>(
        &'a self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Doing<'b, Page>
    where
        'a: 'b,
    {
        self.on_scan(table, partition, bounds, limit, consistency)
    }

    fn drop_partition<'a, 'b>(&'a self, table: &'static Table, partition: Values) -> Doing<'b, ()>
    where
        'a: 'b,
    {
        self.on_drop_partition(table, partition)
    }
}
