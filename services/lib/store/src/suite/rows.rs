//! Rows, writes and reads that the suite's functions share.

use bytes::Bytes;
use polity_core::Stamp;

use crate::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Page, Row, Store, StoreError, Table, Value,
    Values, Write, WriteKind, schema, values_of,
};

/// A head: its guards and who wrote it.
pub(super) fn head(seq: i64, epoch: i64, writer: &str) -> Row {
    Row::new(values_of![schema::HEAD_ROW], Bytes::copy_from_slice(writer.as_bytes())).guarded(seq, epoch)
}

/// A row of a log.
pub(super) fn row(seq: i64, text: &str) -> Row {
    Row::new(values_of![seq], Bytes::copy_from_slice(text.as_bytes())).with_columns(vec![
        Some(Value::Int(1)),
        None,
        Some(Value::from("device")),
    ])
}

pub(super) fn on_head(expect: Expect) -> Condition {
    Condition { row: values_of![schema::HEAD_ROW], expect }
}

/// Appends rows with the head that follows, if the head is as expected.
pub(super) async fn append(
    store: &dyn Store,
    log: &Values,
    expect: Expect,
    new: Row,
    rows: Vec<Row>,
) -> Result<Cas, StoreError> {
    let changes = rows.into_iter().chain([new]).map(Change::Put).collect();
    store.cas(&schema::LOG, log.clone(), on_head(expect), changes).await
}

pub(super) async fn get(store: &dyn Store, table: &'static Table, partition: &Values, key: Values) -> Option<Row> {
    store.get(table, partition.clone(), key, Consistency::Quorum).await.expect("a read")
}

pub(super) async fn head_of(store: &dyn Store, log: &Values) -> Option<Row> {
    let key = values_of![schema::HEAD_ROW];
    store.get(&schema::LOG, log.clone(), key, Consistency::Serial).await.expect("a read")
}

pub(super) async fn scan(
    store: &dyn Store,
    table: &'static Table,
    partition: &Values,
    bounds: Bounds,
    limit: usize,
) -> Page {
    let page = store.scan(table, partition.clone(), bounds, limit, Consistency::Quorum).await.expect("a page");
    assert!(page.rows.len() <= limit && !(page.more && page.rows.is_empty()), "{} rows", page.rows.len());
    page
}

/// All rows between bounds, page by page.
pub(super) async fn scan_all(
    store: &dyn Store,
    table: &'static Table,
    partition: &Values,
    mut bounds: Bounds,
    limit: usize,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let page = scan(store, table, partition, bounds.clone(), limit).await;
        rows.extend(page.rows);
        if !page.more {
            return rows;
        }
        let after = std::ops::Bound::Excluded(rows.last().expect("a row before more").key.clone());
        if bounds.reverse {
            bounds.to = after;
        } else {
            bounds.from = after;
        }
    }
}

pub(super) fn write(table: &'static Table, partition: &Values, row: Row, kind: WriteKind) -> Write {
    Write { table, partition: partition.clone(), row, kind }
}

pub(super) fn forever() -> WriteKind {
    WriteKind::Plain { ttl_s: 0 }
}

pub(super) async fn put(store: &dyn Store, writes: Vec<Write>) {
    store.put(writes, Durability::Acknowledged).await.expect("a write");
}

pub(super) fn stamp(bits: u64) -> WriteKind {
    WriteKind::Projection(Stamp::from_bits(bits))
}

/// A row of this key and value, without columns.
pub(super) fn plain(key: Values, value: &str) -> Row {
    Row::new(key, Bytes::copy_from_slice(value.as_bytes()))
}

pub(super) fn is_misuse<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Misuse { .. })), "{outcome:?}");
}

pub(super) fn is_too_large<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::TooLarge(_))), "{outcome:?}");
}
