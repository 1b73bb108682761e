//! What fuzzing gives to those parsers of this crate that nobody else sees.

use bytes::{Bytes, BytesMut};
use polity_store::{ColumnType, Kind, Row, Table, Value, Values, packed, schema};
use scylla::cluster::metadata::{ColumnType as CqlType, NativeType};

use crate::{
    row::{inserted, row_of},
    value::{Bound, read},
};

/// What stands for a null before a cell; else it is the cell's length.
const NULL: u8 = 255;

/// A row of any table as a server may give it: cells of any bytes, nulls among them.
///
/// # Panics
/// When what was read isn't read again as it was written.
pub fn row(bytes: &[u8]) {
    let Some((which, mut rest)) = bytes.split_first() else { return };
    let table = schema::ALL[usize::from(*which) % schema::ALL.len()];
    let cells = types(table).map(|ty| (ty, cell(&mut rest)));
    if let Some(row) = from_cells(table, cells) {
        assert_eq!(from_cells(table, to_cells(table, &row)), Some(row), "in {}", table.name);
    }
}

/// The types of what a statement selects.
fn types(table: &'static Table) -> impl Iterator<Item = ColumnType> {
    let key = table.clustering.iter().map(|column| column.ty);
    let guards = table.guards.into_iter().flatten().map(|_| ColumnType::Int);
    let data = table.columns.iter().map(|column| column.ty).chain([ColumnType::Blob]);
    key.chain(guards).chain(data).chain((table.kind == Kind::Projection).then_some(ColumnType::Int))
}

fn cell(rest: &mut &[u8]) -> Option<Bytes> {
    let length = rest.split_off_first().copied().filter(|length| *length != NULL)?;
    let cell = rest.split_off(..usize::from(length).min(rest.len()))?;
    Some(Bytes::copy_from_slice(cell))
}

fn from_cells(table: &'static Table, cells: impl Iterator<Item = (ColumnType, Option<Bytes>)>) -> Option<Row> {
    let mut columns = Vec::new();
    for (ty, cell) in cells {
        let native = match ty {
            ColumnType::Int => NativeType::BigInt,
            ColumnType::Text => NativeType::Text,
            ColumnType::Blob => NativeType::Blob,
        };
        columns.push(match cell {
            Some(cell) => Some(read(&CqlType::Native(native), cell)?),
            None => None,
        });
    }
    row_of(table, columns).ok()
}

/// What an insert of the row leaves to be selected.
fn to_cells(table: &'static Table, row: &Row) -> impl Iterator<Item = (ColumnType, Option<Bytes>)> {
    let mut value = BytesMut::from(&*row.value);
    if table.kind == Kind::Projection {
        value.clear();
        packed::pack(&row.columns, &row.value, &mut value);
    }
    let partition = Values::new();
    let bound = inserted(table, &partition, row, &value);
    let mut cells: Vec<Option<Bytes>> = bound.into_iter().map(written).collect();
    if table.kind == Kind::Projection {
        // They are there for an operator's eyes: nobody reads them.
        let columns = table.clustering.len();
        cells[columns..columns + table.columns.len()].fill(None);
    }
    let stamp = row.stamp.map(|stamp| Bytes::copy_from_slice(&stamp.to_i64().to_be_bytes()));
    types(table).zip(cells.into_iter().chain([stamp]))
}

fn written(bound: Bound<'_>) -> Option<Bytes> {
    match bound {
        Bound::Value(Value::Int(int)) => Some(Bytes::copy_from_slice(&int.to_be_bytes())),
        Bound::Int(int) => Some(Bytes::copy_from_slice(&int.to_be_bytes())),
        Bound::Short(short) => Some(Bytes::copy_from_slice(&short.to_be_bytes())),
        Bound::Value(Value::Text(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Bound::Value(Value::Blob(blob)) => Some(blob.clone()),
        Bound::Blob(blob) => Some(Bytes::copy_from_slice(blob)),
        Bound::Null | Bound::Unset => None,
    }
}
