//! The six operations, said in CQL.

use std::{
    ops::Bound as Side,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use polity_core::IncarnationId;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Page, Row, Store, StoreError, Table, Value,
    Values, Write, WriteKind, check, packed,
};
use scylla::{
    response::{PagingState, PagingStateResponse},
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
};

use crate::{
    connect::CqlStore,
    error, metric,
    page::PAGE_BYTES,
    row::{Bindings, conditional_values, inserted, rows_of, unreadable},
    statements::{Range, Shape},
    together::together,
    value::{Bound, Columns},
};

/// Requests of one `put` that are under way at once.
const CONCURRENT_REQUESTS: usize = 16;

/// The clocks of processes and servers are never so far apart.
const CLOCKS_APART_US: i64 = 60_000_000;

/// Times that never repeat or go back within this process, whatever the clock does.
#[derive(Default)]
pub(crate) struct Monotonic(AtomicI64);

impl Monotonic {
    /// The time for a write, in microseconds since 1970, given what the clock says.
    fn after(&self, now_us: i64) -> i64 {
        let next = |last: i64| Some(now_us.max(last + 1));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        now_us.max(last + 1)
    }
}

impl CqlStore {
    async fn prepared(&self, table: &'static Table, shape: Shape) -> Result<Arc<PreparedStatement>, StoreError> {
        let statement = self.statements.get(&self.session, table, shape).await;
        statement.map_err(|error| StoreError::Unavailable(format!("a statement can't be prepared: {error}")))
    }

    async fn cas_batch(
        &self,
        table: &'static Table,
        partition: &Values,
        condition: &Condition,
        changes: &[Change],
    ) -> Result<bool, StoreError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(self.levels.quorum());
        batch.set_serial_consistency(Some(self.levels.serial()));
        batch.set_is_idempotent(false);
        let mut values: Vec<Bindings<'_>> = Vec::with_capacity(changes.len() + 1);
        let conditional = changes.iter().find_map(|change| match change {
            Change::Put(row) if row.key == condition.row => Some(row),
            _ => None,
        });
        let shape = match (condition.expect, conditional) {
            (Expect::Absent, _) => Shape::InsertIfAbsent,
            (Expect::Guards(..), Some(_)) => Shape::UpdateIf,
            (Expect::Guards(..), None) => Shape::GuardsIf,
        };
        batch.append_statement((*self.prepared(table, shape).await?).clone());
        values.push(conditional_values(table, partition, condition, conditional));
        for change in changes {
            match change {
                Change::Put(row) if row.key == condition.row => {}
                Change::Put(row) => {
                    batch.append_statement((*self.prepared(table, Shape::Insert).await?).clone());
                    values.push(inserted(table, partition, row, &row.value));
                }
                Change::DeleteRange { first, last } => {
                    batch.append_statement((*self.prepared(table, Shape::DeleteRange).await?).clone());
                    let range = [Bound::Value(first), Bound::Value(last)];
                    values.push(partition.iter().map(Bound::Value).chain(range).collect());
                }
            }
        }
        let result = self.session.batch(&batch, values).await.map_err(|error| error::of_write("cas", &error))?;
        // The answer was given but can't be understood: what it said is unknown.
        let unknown = |what: String| StoreError::Unknown(what);
        let rows = result.into_rows_result().map_err(|error| unknown(error.to_string()))?;
        let applied = rows.maybe_first_row::<Columns>().map_err(|error| unknown(error.to_string()))?;
        let applied = applied.and_then(|row| row.0.into_iter().next().flatten());
        match applied.as_ref().and_then(Value::as_int) {
            Some(applied) => Ok(applied != 0),
            None => Err(unknown("a conditional write was answered without saying whether it was applied".to_owned())),
        }
    }

    /// Writes what goes together in one request.
    async fn put_part(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut statements = Vec::with_capacity(writes.len());
        let packed: Vec<BytesMut> = writes.iter().map(packed).collect();
        let mut values = Vec::with_capacity(writes.len());
        for (write, packed) in writes.iter().zip(&packed) {
            let (shape, bound) = self.written(write, packed);
            statements.push(self.prepared(write.table, shape).await?);
            values.push(bound);
        }
        let written = match (&statements[..], values.pop()) {
            ([statement], Some(values)) => self.session.execute_unpaged(statement, values).await,
            (_, last) => {
                values.extend(last);
                let mut batch = Batch::new(BatchType::Unlogged);
                batch.set_consistency(self.levels.quorum());
                batch.set_is_idempotent(statements.iter().all(|statement| statement.get_is_idempotent()));
                statements.iter().for_each(|statement| batch.append_statement((**statement).clone()));
                self.session.batch(&batch, values).await
            }
        };
        written.map(drop).map_err(|error| error::of_write("put", &error))
    }

    /// The statement of a plain write, and what it binds; `packed` is its packed row.
    fn written<'a>(&self, write: &'a Write, packed: &'a [u8]) -> (Shape, Bindings<'a>) {
        let Write { table, partition, row, kind } = write;
        match kind {
            WriteKind::Projection(stamp) => {
                let mut values = inserted(table, partition, row, packed);
                values.push(Bound::Int(stamp.to_i64()));
                (Shape::Insert, values)
            }
            WriteKind::Plain { ttl_s } => {
                let mut values = inserted(table, partition, row, &row.value);
                values.push(Bound::Int(self.now_us()));
                // 0 means for ever, in CQL too. The check has seen to it that it fits.
                values.push(Bound::Short(i32::try_from(*ttl_s).unwrap_or(i32::MAX)));
                (Shape::Insert, values)
            }
            WriteKind::Delete => {
                let key = partition.iter().chain(&row.key).map(Bound::Value);
                (Shape::Delete, [Bound::Int(self.now_us())].into_iter().chain(key).collect())
            }
        }
    }

    fn now_us(&self) -> i64 {
        let now_us = i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        self.times.after(now_us)
    }

    async fn scan_pages(
        &self,
        table: &'static Table,
        partition: &Values,
        bounds: &Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        let shape = Shape::Scan(consistency.into(), Range::from(bounds));
        let statement = self.prepared(table, shape).await?;
        let mut values: Bindings<'_> = partition.iter().map(Bound::Value).collect();
        for side in [&bounds.from, &bounds.to] {
            if let Side::Included(named) | Side::Excluded(named) = side {
                values.extend(named.iter().map(Bound::Value));
            }
        }
        let mut page = Page::default();
        let (mut bytes, mut state) = (0, PagingState::start());
        let mut rows_at_once = self.row_sizes.first_page(table);
        while page.rows.len() <= limit && bytes < PAGE_BYTES {
            // One more than asked for says whether there are more. (Not by a LIMIT: where that is within the page size, Apache Cassandra
            // leaves the paging state alone and begins anew.)
            let wanted = i32::try_from(limit + 1 - page.rows.len()).unwrap_or(i32::MAX);
            let mut statement = (*statement).clone();
            statement.set_page_size(rows_at_once.min(wanted));
            let read = self.session.execute_single_page(&statement, &values, state).await;
            let (result, next) = read.map_err(|error| error::of_read("scan", &error))?;
            let rows = result.into_rows_result().map_err(|error| unreadable(table, &error))?;
            bytes += rows.rows_bytes_size();
            rows_of(table, &rows, &mut page.rows)?;
            rows_at_once = self.row_sizes.next_page(table, page.rows.len(), bytes);
            match next {
                PagingStateResponse::NoMorePages => {
                    page.more = page.rows.len() > limit;
                    page.rows.truncate(limit);
                    return Ok(page);
                }
                PagingStateResponse::HasMorePages { state: next } => state = next,
            }
        }
        page.more = true;
        page.rows.truncate(limit);
        Ok(page)
    }
}

#[async_trait]
impl Store for CqlStore {
    fn incarnation(&self) -> IncarnationId {
        self.incarnation
    }

    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        check::cas(table, &partition, &condition, &changes)?;
        let _timed = Timed::new("cas", table);
        if self.cas_batch(table, &partition, &condition, &changes).await? {
            return Ok(Cas::Applied);
        }
        // CQL tells the guards only: the row is read. What stands there may have come later.
        self.get(table, partition, condition.row, Consistency::Serial).await.map(Cas::Refused)
    }

    async fn put(&self, writes: Vec<Write>, _durability: Durability) -> Result<(), StoreError> {
        // What says that rows are projected stands in a partition of its own: both are written to a quorum.
        for write in &writes {
            check::write(write)?;
        }
        let Some(table) = writes.first().map(|write| write.table) else { return Ok(()) };
        let _timed = Timed::new("put", table);
        stream::iter(together(&self.session, &self.keyspace, writes))
            .map(async |part| self.put_part(part).await)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        check::partition(table, &partition)?;
        check::key(table, &key)?;
        let _timed = Timed::new("get", table);
        let statement = self.prepared(table, Shape::Get(consistency.into())).await?;
        let values: Bindings<'_> = partition.iter().chain(&key).map(Bound::Value).collect();
        let result = self.session.execute_unpaged(&statement, values).await;
        let result = result.map_err(|error| error::of_read("get", &error))?;
        let rows = result.into_rows_result().map_err(|error| unreadable(table, &error))?;
        let mut found = Vec::with_capacity(1);
        rows_of(table, &rows, &mut found)?;
        Ok(found.pop())
    }

    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        check::partition(table, &partition)?;
        check::bounds(table, &bounds)?;
        // What begins before everything and excludes it, contains nothing.
        let nothing = |side: &Side<Values>| matches!(side, Side::Excluded(named) if named.is_empty());
        if limit == 0 || nothing(&bounds.from) || nothing(&bounds.to) {
            return Ok(Page::default());
        }
        let _timed = Timed::new("scan", table);
        self.scan_pages(table, &partition, &bounds, limit, consistency).await
    }

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        check::drop_partition(table, &partition)?;
        let _timed = Timed::new("drop_partition", table);
        let statement = self.prepared(table, Shape::DeletePartition).await?;
        // Above the time of every row, whosever clock that was.
        let time = Bound::Int(self.now_us().saturating_add(CLOCKS_APART_US));
        let values: Bindings<'_> = [time].into_iter().chain(partition.iter().map(Bound::Value)).collect();
        let dropped = self.session.execute_unpaged(&statement, values).await;
        dropped.map(drop).map_err(|error| error::of_write("drop_partition", &error))
    }
}

/// The row of a projection as its value holds it; nothing for other rows.
fn packed(write: &Write) -> BytesMut {
    let mut blob = BytesMut::new();
    if let WriteKind::Projection(_) = write.kind {
        packed::pack(&write.row.columns, &write.row.value, &mut blob);
    }
    blob
}

/// Notes how long an operation took.
struct Timed(&'static str, &'static str, Instant);

impl Timed {
    fn new(operation: &'static str, table: &'static Table) -> Self {
        Self(operation, table.name, Instant::now())
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let Self(operation, table, began) = self;
        metrics::histogram!(metric::OPERATION_SECONDS, "operation" => *operation, "table" => *table)
            .record(began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_on_when_the_clock_stands_or_goes_back() {
        let times = Monotonic::default();
        assert_eq!([10, 10, 5, 20].map(|now| times.after(now)), [10, 11, 12, 20]);
    }
}
