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

    use super::*;

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
