//! Keys: the table's number, then the partition, then the clustering columns, so encoded that bytes sort as values do.

use std::ops::Bound;

use polity_store::{Bounds, ColumnType, Direction, StoreError, Table, Value, Values};

/// A part of a key that is larger is refused.
const PART_MAX: usize = 64 * 1024;
const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 1;

/// The beginning that all keys of a partition share.
pub(crate) fn partition(table: &Table, values: &[Value]) -> Result<Vec<u8>, StoreError> {
    debug_assert_eq!(values.len(), table.partition.len(), "the partition key of {}", table.name);
    let mut out = Vec::with_capacity(64);
    out.push(table.number);
    encode(values, &mut out)?;
    Ok(out)
}

/// The key of one row.
pub(crate) fn row(table: &Table, partition: &[u8], clustering: &[Value]) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::with_capacity(partition.len() + 16);
    out.extend_from_slice(partition);
    encode(clustering, &mut out)?;
    if table.direction == Direction::Descending {
        invert(&mut out[partition.len()..]);
    }
    Ok(out)
}

/// Where a range of rows begins (inclusive) and ends (exclusive), in stored order.
pub(crate) fn range(table: &Table, partition: &[u8], bounds: &Bounds) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    // A prefix stands for all rows that begin with it: after it comes the next key that doesn't.
    let edge = |values: &[Value], after: bool| -> Result<Vec<u8>, StoreError> {
        let key = row(table, partition, values)?;
        Ok(if after { successor(key) } else { key })
    };
    let descending = table.direction == Direction::Descending;
    let (low, high) = if descending { (&bounds.to, &bounds.from) } else { (&bounds.from, &bounds.to) };
    let begin = match low {
        Bound::Unbounded => partition.to_vec(),
        Bound::Included(values) => edge(values, false)?,
        Bound::Excluded(values) => edge(values, true)?,
    };
    let end = match high {
        Bound::Unbounded => successor(partition.to_vec()),
        Bound::Included(values) => edge(values, true)?,
        Bound::Excluded(values) => edge(values, false)?,
    };
    Ok((begin, end))
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
    let mut plain = bytes.to_vec();
    if table.direction == Direction::Descending {
        invert(&mut plain);
    }
    let mut rest = &plain[..];
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
        match **rest {
            [ESCAPE, ESCAPED_ZERO, ..] => {
                out.push(0);
                *rest = &rest[2..];
            }
            [ESCAPE, END, ..] => {
                *rest = &rest[2..];
                break;
            }
            [byte, ..] if byte != ESCAPE => {
                out.push(byte);
                *rest = &rest[1..];
            }
            _ => return None,
        }
    }
    match ty {
        ColumnType::Text => String::from_utf8(out).ok().map(Value::from),
        _ => Some(Value::Blob(out.into())),
    }
}

fn encode(values: &[Value], out: &mut Vec<u8>) -> Result<(), StoreError> {
    for value in values {
        match value {
            Value::Int(int) => out.extend_from_slice(&(int.cast_unsigned() ^ (1 << 63)).to_be_bytes()),
            Value::Text(text) => encode_bytes(text.as_bytes(), out)?,
            Value::Blob(blob) => encode_bytes(blob, out)?,
        }
    }
    Ok(())
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), StoreError> {
    if bytes.len() > PART_MAX {
        return Err(StoreError::TooLarge(format!("a key of {} bytes", bytes.len())));
    }
    for byte in bytes {
        out.push(*byte);
        if *byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, END]);
    Ok(())
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
            encode(&[value, Value::Int(0)], &mut out).unwrap();
            out
        };
        let texts = ["", "\0", "\0\0", "\0\u{1}", "a", "a\0", "a\0b", "ab", "b"].map(|text| encoded(text.into()));
        assert!(texts.is_sorted_by(|a, b| a < b));
        let ints = [i64::MIN, -1, 0, 1, i64::MAX].map(|int| encoded(int.into()));
        assert!(ints.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn newest_first_tables_are_stored_that_way() {
        let key = |seq: i64| row(&schema::LOG, b"p", &values_of![seq]).unwrap();
        assert!(key(schema::HEAD_ROW) < key(2) && key(2) < key(1));
    }

    #[test]
    fn the_successor_of_the_last_key_is_after_everything() {
        assert_eq!(successor(vec![1, 0xff, 0xff]), [2]);
        assert_eq!(successor(vec![1, 2]), [1, 3]);
    }
}
