//! A row on its way to CQL and back: what statements bind, in the order of their columns, and what reads give.

use polity_core::Stamp;
use polity_store::{Condition, Expect, Kind, Row, StoreError, Table, Value, Values, packed};
use scylla::response::query_result::QueryRowsResult;

use crate::value::{Bound, Columns};

/// What is bound to a statement.
pub(crate) type Bindings<'a> = Vec<Bound<'a>>;

/// What an insert binds, in the order of its columns.
pub(crate) fn inserted<'a>(table: &Table, partition: &'a Values, row: &'a Row, value: &'a [u8]) -> Bindings<'a> {
    let mut values: Bindings<'a> = partition.iter().chain(&row.key).map(Bound::Value).collect();
    if table.guards.is_some() {
        let (first, second) = row.guards.map_or((Bound::Unset, Bound::Unset), |(a, b)| (Bound::Int(a), Bound::Int(b)));
        values.extend([first, second]);
    }
    // A row with guards is written again and again; another one once, and needs no tombstones.
    let missing = if row.guards.is_some() { Bound::Null } else { Bound::Unset };
    values.extend(data(table, row, &missing, value));
    values
}

/// What the conditional statement of a batch binds.
pub(crate) fn conditional_values<'a>(
    table: &Table,
    partition: &'a Values,
    condition: &'a Condition,
    row: Option<&'a Row>,
) -> Bindings<'a> {
    let Expect::Guards(first, second) = condition.expect else {
        return row.map_or_else(Vec::new, |row| inserted(table, partition, row, &row.value));
    };
    let expected = [Bound::Int(first), Bound::Int(second)];
    let mut values: Bindings<'a> = Vec::new();
    match row {
        Some(row) => {
            let guards = row.guards.map_or([Bound::Null, Bound::Null], |(a, b)| [Bound::Int(a), Bound::Int(b)]);
            values.extend(guards);
            values.extend(data(table, row, &Bound::Null, &row.value));
        }
        None => values.extend(expected.clone()),
    }
    values.extend(partition.iter().chain(&condition.row).map(Bound::Value));
    values.extend(expected);
    values
}

/// The columns and the value of a row; `missing` stands for columns that it doesn't have.
fn data<'a>(table: &Table, row: &'a Row, missing: &Bound<'a>, value: &'a [u8]) -> impl Iterator<Item = Bound<'a>> {
    let missing = missing.clone();
    let columns = (0..table.columns.len()).map(move |at| row.columns.get(at).and_then(Option::as_ref));
    columns.map(move |column| column.map_or(missing.clone(), Bound::Value)).chain([Bound::Blob(value)])
}

pub(crate) fn rows_of(table: &'static Table, rows: &QueryRowsResult, out: &mut Vec<Row>) -> Result<(), StoreError> {
    for columns in rows.rows::<Columns>().map_err(|error| unreadable(table, &error))? {
        let Columns(columns) = columns.map_err(|error| unreadable(table, &error))?;
        out.push(row_of(table, columns)?);
    }
    Ok(())
}

/// Takes a row as `selected` names its columns.
pub(crate) fn row_of(table: &'static Table, columns: Vec<Option<Value>>) -> Result<Row, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(table.name, what);
    let mut columns = columns.into_iter();
    let key: Option<Values> = columns.by_ref().take(table.clustering.len()).collect();
    let key = key.ok_or_else(|| corrupt("a row without its key"))?;
    let guards = if table.guards.is_some() {
        let pair = (columns.next().flatten(), columns.next().flatten());
        pair.0.as_ref().and_then(Value::as_int).zip(pair.1.as_ref().and_then(Value::as_int))
    } else {
        None
    };
    let mut data: Vec<Option<Value>> = columns.by_ref().take(table.columns.len()).collect();
    let value = columns.next().flatten().and_then(|value| value.as_blob().cloned()).unwrap_or_default();
    let (value, stamp) = if table.kind == Kind::Projection {
        let stamp = columns.next().flatten().as_ref().and_then(Value::as_int);
        let stamp = stamp.ok_or_else(|| corrupt("a projection row without its stamp"))?;
        let (columns, value) = packed::unpack(value).ok_or_else(|| corrupt("a row that can't be taken apart"))?;
        // A newer program's row may have more of them.
        data = columns;
        data.truncate(table.columns.len());
        (value, Some(Stamp::from_bits(stamp.cast_unsigned())))
    } else {
        (value, None)
    };
    let used = data.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    data.truncate(used);
    Ok(Row { key, guards, columns: data, value, stamp })
}

pub(crate) fn unreadable(table: &'static Table, error: &dyn std::error::Error) -> StoreError {
    StoreError::corrupt(table.name, error.to_string())
}
