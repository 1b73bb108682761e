//! What a store does, as metrics, as spans of a trace, and in the cost of the request that asked: around any backend.
//!
//! A span tells tenant, table, operation and outcome; no key and no value. While nobody takes traces it costs a look at a number.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use metrics::{Counter, Histogram};
use polity_core::{IncarnationId, cost};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Page, Row, Store, StoreError, Table, Values, Write, schema,
};

const OPERATIONS: &str = "polity_store_operations_total";
const SECONDS: &str = "polity_store_operation_seconds";

const OUTCOMES: [&str; 3] = ["ok", "refused", "error"];

/// An operation, as metrics and spans name it.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Cas,
    Put,
    Get,
    Scan,
    Drop,
}

const NAMES: [&str; 5] = ["cas", "put", "get", "scan", "drop_partition"];

/// The metrics of one table and operation, looked up once.
#[derive(Default)]
struct Cell {
    outcomes: [OnceLock<Counter>; OUTCOMES.len()],
    seconds: OnceLock<Histogram>,
}

/// A store that is watched.
pub struct Observed {
    inner: Arc<dyn Store>,
    /// By table (in the schema's order) and operation.
    cells: Vec<[Cell; NAMES.len()]>,
}

/// Describes the metrics of all stores to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(OPERATIONS, "Operations of the store by table, operation and outcome.");
    metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "Duration of the store's operations.");
    crate::kept::describe();
}

impl Observed {
    /// Watches `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, cells: schema::ALL.iter().map(|_| Default::default()).collect() })
    }

    fn span(operation: Operation, table: &Table, partition: &Values, rows: usize) -> Span {
        let name = NAMES[operation as usize];
        let tenant = table.partition.first().filter(|column| column.name == "tenant").and(partition.first());
        tracing::info_span!(
            "store",
            otel.name = format!("store {name} {}", table.name),
            otel.kind = "client",
            db.operation.name = name,
            db.collection.name = table.name,
            tenant = tenant.and_then(crate::Value::as_int),
            rows,
            outcome = Empty,
        )
    }

    async fn watch<T>(
        &self,
        operation: Operation,
        table: &'static Table,
        span: Span,
        outcome: impl Fn(&T) -> usize,
        done: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = if span.is_none() { done.await } else { done.instrument(span.clone()).await };
        let took = began.elapsed();
        match operation {
            Operation::Get | Operation::Scan => cost::note_read(took),
            Operation::Cas | Operation::Put | Operation::Drop => cost::note_write(took),
        }
        let outcome = answer.as_ref().map_or(2, outcome);
        span.record("outcome", OUTCOMES[outcome]);
        self.count(operation, table, outcome, took);
        answer
    }

    fn count(&self, operation: Operation, table: &'static Table, outcome: usize, took: Duration) {
        let index = schema::ALL.iter().position(|known| known.number == table.number);
        let Some(cells) = index.and_then(|index| self.cells.get(index)) else { return };
        let (cell, name) = (&cells[operation as usize], NAMES[operation as usize]);
        let counter = cell.outcomes[outcome].get_or_init(|| {
            metrics::counter!(OPERATIONS, "table" => table.name, "operation" => name, "outcome" => OUTCOMES[outcome])
        });
        counter.increment(1);
        // By operation only: a histogram for each table would be hundreds of series.
        let seconds = cell.seconds.get_or_init(|| metrics::histogram!(SECONDS, "operation" => name));
        seconds.record(took.as_secs_f64());
    }
}

fn ok<T>(_: &T) -> usize {
    0
}

#[async_trait]
impl Store for Observed {
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
        let span = Self::span(Operation::Cas, table, &partition, changes.len());
        let outcome = |cas: &Cas| usize::from(*cas != Cas::Applied);
        self.watch(Operation::Cas, table, span, outcome, self.inner.cas(table, partition, condition, changes)).await
    }

    async fn put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        // Of several tables the first one stands for all.
        let Some(first) = writes.first() else { return Ok(()) };
        let table = first.table;
        let span = Self::span(Operation::Put, table, &first.partition, writes.len());
        self.watch(Operation::Put, table, span, ok, self.inner.put(writes, durability)).await
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        let span = Self::span(Operation::Get, table, &partition, 1);
        self.watch(Operation::Get, table, span, ok, self.inner.get(table, partition, key, consistency)).await
    }

    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        let span = Self::span(Operation::Scan, table, &partition, limit);
        let page = self.inner.scan(table, partition, bounds, limit, consistency);
        self.watch(Operation::Scan, table, span, ok, page).await
    }

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        let span = Self::span(Operation::Drop, table, &partition, 0);
        self.watch(Operation::Drop, table, span, ok, self.inner.drop_partition(table, partition)).await
    }
}
