//! What fuzzing gives to those parsers of this crate that nobody else sees.

use std::{fs, path::Path};

use bytes::Bytes;
use polity_store::{Table, Value, schema};

use crate::{
    acknowledged, inspect, keys,
    record::{self, Record},
};

/// A stored row.
///
/// # Panics
/// When what was read isn't read again as it was written.
pub fn record(bytes: &[u8]) {
    let (table, bytes) = (&schema::LOG, Bytes::copy_from_slice(bytes));
    record::expires_s(&bytes);
    let Ok(read) = Record::decode(table, bytes) else { return };
    let (stamp, expires_s) = (read.stamp, read.expires_s);
    let Ok(mut row) = read.into_row(table, polity_store::values_of![1]) else { return };
    // Nulls at the end are never written.
    while row.columns.pop_if(|column| column.is_none()).is_some() {}
    let again = Record::decode(table, Record::encode(&row, stamp, expires_s)).expect("what was written");
    assert_eq!((again.stamp, again.expires_s), (stamp, expires_s));
    assert_eq!(again.into_row(table, row.key.clone()).expect("what was written"), row);
}

/// The key of a stored row, in a table of each shape.
///
/// # Panics
/// When what was read isn't read again as it was written, or sorts otherwise than the bytes.
pub fn key(bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    for table in schema::ALL {
        let (one, other) = (read_key(table, one), read_key(table, other));
        if let (Some((one, first)), Some((other, second))) = (one, other) {
            let descending = table.direction == polity_store::Direction::Descending;
            let order = if descending { second.cmp(&first) } else { first.cmp(&second) };
            assert_eq!(one.cmp(&other), order, "in {}: {first:?} and {second:?}", table.name);
        }
    }
}

fn read_key(table: &'static Table, bytes: &[u8]) -> Option<(Vec<u8>, Vec<Value>)> {
    let values = keys::clustering(table, bytes).ok()?;
    let key = keys::row(table, b"", &values);
    assert_eq!(keys::clustering(table, &key).ok().as_ref(), Some(&values), "in {}", table.name);
    Some((key, values.into_vec()))
}

/// The files of a store, as they are looked at before they are opened: a journal, and the note of what was acknowledged.
///
/// # Panics
/// When the folder can't be written.
pub fn files(folder: &Path, bytes: &[u8]) {
    let (note, journal) = bytes.split_at(bytes.len().min(16));
    fs::write(folder.join("0.jnl"), journal).expect("a folder to write to");
    fs::write(folder.join("version"), b"3").expect("a folder to write to");
    fs::write(folder.join("acknowledged"), note).expect("a folder to write to");
    let _ = inspect::inspect(folder, acknowledged::read(folder).unwrap_or_default());
}
