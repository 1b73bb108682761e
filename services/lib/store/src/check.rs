//! What every backend checks before it writes: the kind of the table, the shape of keys and rows, the limits. One place, so that
//! what one store refuses, all do: whatever passes can be said to a CQL store, too.

use std::collections::BTreeSet;

use crate::{
    Bounds, Change, Column, ColumnType, Condition, Expect, Kind, Row, StoreError, Table, Value, Values, Write,
    WriteKind,
};

/// Bytes of a row's value and columns.
pub const ROW_MAX: usize = 1024 * 1024;
/// Bytes of all rows of one conditional write: it is one mutation, and a CQL store's default takes no larger ones than 16 MiB.
pub const WRITE_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a partition key, and of a clustering key. (CQL's limit is 64 KiB for each.)
pub const KEY_MAX: usize = 8 * 1024;
/// The longest time to live, in seconds. (CQL takes 20 years, but Apache Cassandra none that ends after January 2038.)
pub const TTL_MAX_S: u32 = 366 * 86_400;

/// Checks a conditional write.
///
/// # Errors
/// [`StoreError::Misuse`], [`StoreError::TooLarge`]: nothing may be written.
pub fn cas(
    table: &'static Table,
    partition: &Values,
    condition: &Condition,
    changes: &[Change],
) -> Result<(), StoreError> {
    require(table, table.kind == Kind::Log, "only a log table takes conditional writes")?;
    self::partition(table, partition)?;
    key(table, &condition.row)?;
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    for change in changes {
        if let Change::Put(put) = change {
            row(table, put)?;
            bytes += put.size();
            require(table, keys.insert(&put.key), "a row is written twice in one write")?;
        }
    }
    if bytes > WRITE_MAX {
        return Err(StoreError::TooLarge(format!("a write of {bytes} bytes to {}", table.name)));
    }
    // Said as IF NOT EXISTS, which goes with an insert of the row only.
    let made = condition.expect != Expect::Absent || keys.contains(&condition.row);
    require(table, made, "a row is to be absent but isn't written")?;
    for change in changes {
        let Change::DeleteRange { first, last } = change else { continue };
        let ordered = table.clustering.first().is_some_and(|column| fits(*column, first) && fits(*column, last));
        require(table, ordered, "a range of another type than its column")?;
        // All changes of a write bear one timestamp: there a deletion wins.
        let spared = |key: &Values| key.first().is_none_or(|value| value < first || value > last);
        let apart = spared(&condition.row) && keys.iter().all(|key| spared(key));
        require(table, apart, "a row is written and deleted in one write")?;
    }
    Ok(())
}

/// Checks a write without condition.
///
/// # Errors
/// As for [`cas`].
pub fn write(write: &Write) -> Result<(), StoreError> {
    let Write { table, partition, row: written, kind } = write;
    let right = match kind {
        WriteKind::Projection(_) => table.kind == Kind::Projection,
        WriteKind::Plain { .. } | WriteKind::Delete => table.kind == Kind::Plain,
    };
    require(table, right, "a write of another kind than the table's")?;
    self::partition(table, partition)?;
    if matches!(kind, WriteKind::Delete) {
        return key(table, &written.key);
    }
    let lasting = !matches!(kind, WriteKind::Plain { ttl_s } if *ttl_s > TTL_MAX_S);
    require(table, lasting, "a time to live of over a year")?;
    row(table, written)
}

/// Checks what is to be dropped.
///
/// # Errors
/// As for [`cas`].
pub fn drop_partition(table: &'static Table, partition: &Values) -> Result<(), StoreError> {
    // A deletion bears the clock's time, which is above every stamp: no projection would ever be seen there again. In what belongs to
    // one log that is what its purge means; anything else outlives it.
    let over = table.kind != Kind::Projection || table.is_of_one_log();
    require(table, over, "a projection isn't deleted: absence is a value")?;
    self::partition(table, partition)
}

/// Checks a partition key.
///
/// # Errors
/// As for [`cas`].
pub fn partition(table: &'static Table, partition: &Values) -> Result<(), StoreError> {
    require(table, typed(table.partition, partition), "not the columns of the partition key")?;
    let size = size(partition);
    // CQL has no empty partition key of one column.
    require(table, size > 0, "an empty partition key")?;
    key_size(table, size)
}

/// Checks a clustering key.
///
/// # Errors
/// As for [`cas`].
pub fn key(table: &'static Table, key: &Values) -> Result<(), StoreError> {
    require(table, typed(table.clustering, key), "not the columns of the clustering key")?;
    key_size(table, size(key))
}

/// Checks which rows are asked for.
///
/// # Errors
/// As for [`cas`].
pub fn bounds(table: &'static Table, bounds: &Bounds) -> Result<(), StoreError> {
    for bound in [&bounds.from, &bounds.to] {
        let (std::ops::Bound::Included(values) | std::ops::Bound::Excluded(values)) = bound else { continue };
        let known = table.clustering.get(..values.len()).is_some_and(|columns| typed(columns, values));
        require(table, known, "not the first columns of the clustering key")?;
        key_size(table, size(values))?;
    }
    Ok(())
}

fn row(table: &'static Table, row: &Row) -> Result<(), StoreError> {
    key(table, &row.key)?;
    require(table, row.guards.is_none() || table.guards.is_some(), "guards in a table that has none")?;
    let columns = row.columns.len() <= table.columns.len()
        && row.columns.iter().zip(table.columns).all(|(value, column)| value.as_ref().is_none_or(|v| fits(*column, v)));
    require(table, columns, "not the columns of the table")?;
    let size = row.size() - size(&row.key);
    if size > ROW_MAX { Err(StoreError::TooLarge(format!("a row of {size} bytes in {}", table.name))) } else { Ok(()) }
}

fn key_size(table: &'static Table, size: usize) -> Result<(), StoreError> {
    if size > KEY_MAX { Err(StoreError::TooLarge(format!("a key of {size} bytes in {}", table.name))) } else { Ok(()) }
}

fn size(values: &Values) -> usize {
    values.iter().map(Value::size).sum()
}

fn typed(columns: &[Column], values: &Values) -> bool {
    columns.len() == values.len() && columns.iter().zip(values).all(|(column, value)| fits(*column, value))
}

fn fits(column: Column, value: &Value) -> bool {
    matches!(
        (column.ty, value),
        (ColumnType::Int, Value::Int(_)) | (ColumnType::Text, Value::Text(_)) | (ColumnType::Blob, Value::Blob(_))
    )
}

fn require(table: &'static Table, holds: bool, what: &'static str) -> Result<(), StoreError> {
    if holds { Ok(()) } else { Err(StoreError::Misuse { table: table.name, what }) }
}
