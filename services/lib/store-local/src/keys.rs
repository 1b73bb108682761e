//! Keys: the table's number, then the partition, then the clustering columns, so encoded that bytes sort as values do.

use std::ops::Bound;

use polity_store::{Bounds, ColumnType, Direction, StoreError, Table, Value, Values};

const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 1;

/// The beginning that all keys of a partition share.
pub(crate) fn partition(table: &Table, values: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(table.number);
    encode(values, &mut out);
    out
}

/// The key of one row.
pub(crate) fn row(table: &Table, partition: &[u8], clustering: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(partition.len() + 16);
    out.extend_from_slice(partition);
    encode(clustering, &mut out);
    if table.direction == Direction::Descending {
        invert(&mut out[partition.len()..]);
    }
    out
}

/// Where a range of rows begins (inclusive) and ends (exclusive), in stored order.
pub(crate) fn range(table: &Table, partition: &[u8], bounds: &Bounds) -> (Vec<u8>, Vec<u8>) {
    // A prefix stands for all rows that begin with it: after it comes the next key that doesn't.
    let edge = |values: &[Value], after: bool| {
        let key = row(table, partition, values);
        if after { successor(key) } else { key }
    };
    let descending = table.direction == Direction::Descending;
    let (low, high) = if descending { (&bounds.to, &bounds.from) } else { (&bounds.from, &bounds.to) };
    let begin = match low {
        Bound::Unbounded => partition.to_vec(),
        Bound::Included(values) => edge(values, false),
        Bound::Excluded(values) => edge(values, true),
    };
    let end = match high {
        Bound::Unbounded => successor(partition.to_vec()),
        Bound::Included(values) => edge(values, true),
        Bound::Excluded(values) => edge(values, false),
    };
    (begin, end)
}

/// The smallest key greater than all that begin with `key`.
pub(crate) fn successor(mut key: Vec<u8>) -> Vec<u8> {
    while let Some(last) = key.last_mut() {
        if *last < 0xff {
            *last += 1;
            return key;
        }
        key.pop();
    }
    key
}

/// Reads clustering columns back from a key.
pub(crate) fn clustering(table: &'static Table, bytes: &[u8]) -> Result<Values, StoreError> {
    let mut inverted = Vec::new();
    let mut rest = bytes;
    if table.direction == Direction::Descending {
        inverted.extend_from_slice(bytes);
        invert(&mut inverted);
        rest = &inverted;
    }
    let mut out = Values::new();
    for column in table.clustering {
        let value = decode(column.ty, &mut rest);
        out.push(value.ok_or_else(|| StoreError::corrupt(table.name, "a key that is cut short"))?);
    }
    Ok(out)
}

fn decode(ty: ColumnType, rest: &mut &[u8]) -> Option<Value> {
    if ty == ColumnType::Int {
        let (bytes, after) = rest.split_at_checked(8)?;
        *rest = after;
        return Some(Value::Int((u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63)).cast_signed()));
    }
    let mut out = Vec::new();
    loop {
        let plain = rest.iter().position(|byte| *byte == ESCAPE)?;
        out.extend_from_slice(&rest[..plain]);
        let (escaped, after) = rest[plain + 1..].split_first()?;
        *rest = after;
        match *escaped {
            ESCAPED_ZERO => out.push(0),
            END => break,
            _ => return None,
        }
    }
    match ty {
        ColumnType::Text => String::from_utf8(out).ok().map(Value::from),
        _ => Some(Value::Blob(out.into())),
    }
}

fn encode(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        match value {
            Value::Int(int) => out.extend_from_slice(&(int.cast_unsigned() ^ (1 << 63)).to_be_bytes()),
            Value::Text(text) => encode_bytes(text.as_bytes(), out),
            Value::Blob(blob) => encode_bytes(blob, out),
        }
    }
}

/// At most doubles them: a whole key of [`polity_store::check::KEY_MAX`] bytes twice stays below the engine's 64 KiB.
fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut parts = bytes.split(|byte| *byte == ESCAPE);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[ESCAPE, END]);
}

fn invert(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

#[cfg(test)]
mod tests {
    use polity_store::{schema, values_of};
    use proptest::prelude::*;

    use super::*;

    /// Values that are near each other.
    fn any_value(ty: ColumnType) -> BoxedStrategy<Value> {
        let bytes = || prop::collection::vec(prop::sample::select(vec![0, 1, 2, 0x7f, 0xff]), 0..4);
        match ty {
            ColumnType::Int => prop_oneof![-2..3_i64, any::<i64>()].prop_map(Value::Int).boxed(),
            ColumnType::Text => "[\0\u{1}ab\u{ff}]{0,3}".prop_map(Value::from).boxed(),
            ColumnType::Blob => bytes().prop_map(Value::from).boxed(),
        }
    }

    fn any_key(table: &'static Table) -> impl Strategy<Value = Vec<Value>> {
        table.clustering.iter().map(|column| any_value(column.ty)).collect::<Vec<_>>()
    }

    fn any_bound(table: &'static Table) -> impl Strategy<Value = Bound<Values>> {
        (any_key(table), 0..=table.clustering.len(), 0..3_u8).prop_map(|(key, length, kind)| {
            let prefix: Values = key[..length].iter().cloned().collect();
            [Bound::Included(prefix.clone()), Bound::Excluded(prefix), Bound::Unbounded][usize::from(kind)].clone()
        })
    }

    /// A table, some of its rows, and bounds.
    fn any_rows() -> impl Strategy<Value = (&'static Table, Vec<Vec<Value>>, Bounds)> {
        prop::sample::select(schema::ALL).prop_flat_map(|table| {
            let bounds =
                (any_bound(table), any_bound(table)).prop_map(|(from, to)| Bounds { from, to, reverse: false });
            (Just(table), prop::collection::vec(any_key(table), 1..8), bounds)
        })
    }

    fn lies_within(row: &[Value], bounds: &Bounds) -> bool {
        let beginning = |prefix: &Values| row[..prefix.len()].to_vec();
        let after = match &bounds.from {
            Bound::Unbounded => true,
            Bound::Included(prefix) => beginning(prefix) >= prefix.to_vec(),
            Bound::Excluded(prefix) => beginning(prefix) > prefix.to_vec(),
        };
        after
            && match &bounds.to {
                Bound::Unbounded => true,
                Bound::Included(prefix) => beginning(prefix) <= prefix.to_vec(),
                Bound::Excluded(prefix) => beginning(prefix) < prefix.to_vec(),
            }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn keys_sort_and_lie_between_bounds_as_their_values_do((table, rows, bounds) in any_rows()) {
            let beginning = partition(table, &values_of![1_i64]);
            let keys: Vec<_> = rows.iter().map(|values| row(table, &beginning, values)).collect();
            let (begin, end) = range(table, &beginning, &bounds);
            for (key, values) in keys.iter().zip(&rows) {
                prop_assert_eq!(&clustering(table, &key[beginning.len()..]).unwrap().into_vec(), values);
                prop_assert_eq!((&begin..&end).contains(&key), lies_within(values, &bounds), "{:?}", values);
                for (other, others) in keys.iter().zip(&rows) {
                    let order = if table.direction == Direction::Descending { others.cmp(values) } else { values.cmp(others) };
                    prop_assert_eq!(key.cmp(other), order, "{:?} {:?}", values, others);
                }
            }
        }
    }

    #[test]
    fn bytes_sort_as_values_do() {
        let encoded = |value: Value| {
            let mut out = Vec::new();
            encode(&[value, Value::Int(0)], &mut out);
            out
        };
        let texts = ["", "\0", "\0\0", "\0\u{1}", "a", "a\0", "a\0b", "ab", "b"].map(|text| encoded(text.into()));
        assert!(texts.is_sorted_by(|a, b| a < b));
        let ints = [i64::MIN, -1, 0, 1, i64::MAX].map(|int| encoded(int.into()));
        assert!(ints.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn newest_first_tables_are_stored_that_way() {
        let key = |seq: i64| row(&schema::LOG, b"p", &values_of![seq]);
        assert!(key(schema::HEAD_ROW) < key(2) && key(2) < key(1));
    }

    #[test]
    fn the_successor_of_the_last_key_is_after_everything() {
        assert_eq!(successor(vec![1, 0xff, 0xff]), [2]);
        assert_eq!(successor(vec![1, 2]), [1, 3]);
    }
}
