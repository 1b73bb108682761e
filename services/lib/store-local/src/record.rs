//! The stored form of a row without its key: a format byte, what orders and ends it, and the packed row.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use polity_core::Stamp;
use polity_store::{Row, StoreError, Table, Value, Values, packed};

const FORMAT: u8 = 2;
const HAS_STAMP: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_GUARDS: u8 = 4;

/// A row as it is stored, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stamp: Option<Stamp>,
    /// Unix seconds after which it is gone; 0: never.
    pub(crate) expires_s: u64,
    pub(crate) guards: Option<(i64, i64)>,
    /// Value and columns: see [`packed`].
    pub(crate) packed: Bytes,
}

impl Record {
    /// The bytes to store for a row.
    pub(crate) fn encode(row: &Row, stamp: Option<Stamp>, expires_s: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(34 + packed::packed_size(&row.columns, &row.value));
        out.put_u8(FORMAT);
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.put_u8(
            flag(stamp.is_some(), HAS_STAMP)
                | flag(expires_s != 0, HAS_EXPIRY)
                | flag(row.guards.is_some(), HAS_GUARDS),
        );
        if let Some(stamp) = stamp {
            out.put_i64(stamp.to_i64());
        }
        if expires_s != 0 {
            out.put_u64(expires_s);
        }
        if let Some((first, second)) = row.guards {
            out.put_i64(first);
            out.put_i64(second);
        }
        packed::pack(&row.columns, &row.value, &mut out);
        out.freeze()
    }

    /// Reads what [`Record::encode`] wrote; the row shares the bytes.
    pub(crate) fn decode(table: &'static Table, bytes: Bytes) -> Result<Self, StoreError> {
        decode(bytes).ok_or_else(|| damaged(table))
    }

    /// The row with this key.
    pub(crate) fn into_row(self, table: &'static Table, key: Values) -> Result<Row, StoreError> {
        let (mut columns, value): (Vec<Option<Value>>, _) =
            packed::unpack(self.packed).ok_or_else(|| damaged(table))?;
        // A newer program's row may have more of them: what was read may be written again.
        columns.truncate(table.columns.len());
        let used = columns.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        columns.truncate(used);
        Ok(Row { key, guards: self.guards, columns, value, stamp: self.stamp })
    }

    /// Whether its time to live has passed.
    pub(crate) fn is_expired(&self, now_s: u64) -> bool {
        self.expires_s != 0 && self.expires_s <= now_s
    }
}

/// When a stored row expires (Unix seconds); 0: never, or it is no row.
pub(crate) fn expires_s(bytes: &Bytes) -> u64 {
    decode(bytes.clone()).map_or(0, |record| record.expires_s)
}

fn damaged(table: &'static Table) -> StoreError {
    StoreError::corrupt(table.name, "a row that is cut short or of an unknown format")
}

fn decode(mut rest: Bytes) -> Option<Record> {
    if rest.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let flags = rest.try_get_u8().ok()?;
    let has = |flag: u8| flags & flag != 0;
    let stamp = if has(HAS_STAMP) { Some(Stamp::from_bits(rest.try_get_u64().ok()?)) } else { None };
    let expires_s = if has(HAS_EXPIRY) { rest.try_get_u64().ok()? } else { 0 };
    let guards = if has(HAS_GUARDS) { Some((rest.try_get_i64().ok()?, rest.try_get_i64().ok()?)) } else { None };
    Some(Record { stamp, expires_s, guards, packed: rest })
}

#[cfg(test)]
mod tests {
    use polity_store::{schema, values_of};

    use super::*;

    #[test]
    fn records_come_back_and_damage_is_found() {
        let row = Row {
            key: values_of![1_i64],
            guards: Some((-1, i64::MAX)),
            columns: vec![None, Some(Value::Int(3)), Some("text".into()), Some(Value::Blob(Bytes::from_static(b"\0")))],
            value: Bytes::from_static(b"value"),
            stamp: Some(Stamp::from_bits(7)),
        };
        let read = |bytes| Record::decode(&schema::LOG, bytes)?.into_row(&schema::LOG, values_of![1_i64]);
        let bytes = Record::encode(&row, row.stamp, 9);
        assert_eq!(read(bytes.clone()).unwrap(), row);
        let mut later = row.clone();
        later.columns.extend([None, Some(Value::Int(1))]);
        assert_eq!(read(Record::encode(&later, row.stamp, 9)).unwrap(), row, "a later version's column is left away");
        assert!(Record::decode(&schema::LOG, bytes.clone()).unwrap().is_expired(9));
        // Shorter than what stands before the packed row and the end of that: the engine's checksums see to the rest.
        for length in 0..38 {
            assert!(read(bytes.slice(..length)).is_err(), "{length}");
        }
    }
}
