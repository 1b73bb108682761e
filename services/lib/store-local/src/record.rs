//! The stored form of a row's columns, behind a format byte.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use polity_core::Stamp;
use polity_store::{Row, StoreError, Table, Value, Values};

const FORMAT: u8 = 1;
const HAS_STAMP: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_GUARDS: u8 = 4;

/// A value (or a row's columns) may have this many bytes.
pub(crate) const VALUE_MAX: usize = 1024 * 1024;

/// A row as it is stored, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stamp: Option<Stamp>,
    /// Unix seconds after which it is gone; 0: never.
    pub(crate) expires_s: u64,
    pub(crate) guards: Option<(i64, i64)>,
    pub(crate) columns: Vec<Option<Value>>,
    pub(crate) value: Bytes,
}

impl Record {
    /// The stored form of `row`.
    pub(crate) fn new(row: Row, stamp: Option<Stamp>, expires_s: u64) -> Self {
        Self { stamp, expires_s, guards: row.guards, columns: row.columns, value: row.value }
    }

    /// The row with this key.
    pub(crate) fn into_row(self, key: Values) -> Row {
        Row { key, guards: self.guards, columns: self.columns, value: self.value, stamp: self.stamp }
    }

    /// The bytes to store.
    pub(crate) fn encode(&self) -> Result<Bytes, StoreError> {
        let columns: usize = self.columns.iter().flatten().map(Value::size).sum();
        if self.value.len() + columns > VALUE_MAX {
            return Err(StoreError::TooLarge(format!("a row of {} bytes", self.value.len() + columns)));
        }
        let mut out = BytesMut::with_capacity(48 + columns + 5 * self.columns.len() + self.value.len());
        out.put_u8(FORMAT);
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.put_u8(
            flag(self.stamp.is_some(), HAS_STAMP)
                | flag(self.expires_s != 0, HAS_EXPIRY)
                | flag(self.guards.is_some(), HAS_GUARDS),
        );
        if let Some(stamp) = self.stamp {
            out.put_i64(stamp.to_i64());
        }
        if self.expires_s != 0 {
            out.put_u64(self.expires_s);
        }
        if let Some((first, second)) = self.guards {
            out.put_i64(first);
            out.put_i64(second);
        }
        out.put_u8(u8::try_from(self.columns.len()).map_err(|_| StoreError::TooLarge("over 255 columns".into()))?);
        for column in &self.columns {
            encode_column(column.as_ref(), &mut out);
        }
        out.put_slice(&self.value);
        Ok(out.freeze())
    }

    /// Reads what [`Record::encode`] wrote; the value shares the bytes.
    pub(crate) fn decode(table: &'static Table, bytes: Bytes) -> Result<Self, StoreError> {
        let mut rest = bytes;
        decode(&mut rest)
            .ok_or_else(|| StoreError::corrupt(table.name, "a row that is cut short or of an unknown format"))
    }
}

fn decode(rest: &mut Bytes) -> Option<Record> {
    if rest.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let flags = rest.try_get_u8().ok()?;
    let has = |flag: u8| flags & flag != 0;
    let stamp = if has(HAS_STAMP) { Some(Stamp::from_bits(rest.try_get_u64().ok()?)) } else { None };
    let expires_s = if has(HAS_EXPIRY) { rest.try_get_u64().ok()? } else { 0 };
    let guards = if has(HAS_GUARDS) { Some((rest.try_get_i64().ok()?, rest.try_get_i64().ok()?)) } else { None };
    let count = rest.try_get_u8().ok()?;
    let columns = (0..count).map(|_| decode_column(rest)).collect::<Option<_>>()?;
    Some(Record { stamp, expires_s, guards, columns, value: std::mem::take(rest) })
}

fn encode_column(column: Option<&Value>, out: &mut BytesMut) {
    let mut bytes = |tag: u8, bytes: &[u8]| {
        out.put_u8(tag);
        // Its size was checked against VALUE_MAX.
        out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        out.put_slice(bytes);
    };
    match column {
        None => out.put_u8(0),
        Some(Value::Int(int)) => {
            out.put_u8(1);
            out.put_i64(*int);
        }
        Some(Value::Text(text)) => bytes(2, text.as_bytes()),
        Some(Value::Blob(blob)) => bytes(3, blob),
    }
}

fn decode_column(rest: &mut Bytes) -> Option<Option<Value>> {
    let bytes = |rest: &mut Bytes| {
        let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
        (length <= rest.len()).then(|| rest.split_to(length))
    };
    Some(match rest.try_get_u8().ok()? {
        0 => None,
        1 => Some(Value::Int(rest.try_get_i64().ok()?)),
        2 => Some(Value::Text(std::str::from_utf8(&bytes(rest)?).ok()?.into())),
        3 => Some(Value::Blob(bytes(rest)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use polity_store::schema;

    use super::*;

    #[test]
    fn records_come_back_and_damage_is_found() {
        let record = Record {
            stamp: Some(Stamp::from_bits(7)),
            expires_s: 9,
            guards: Some((-1, i64::MAX)),
            columns: vec![None, Some(Value::Int(3)), Some("text".into()), Some(Value::Blob(Bytes::from_static(b"\0")))],
            value: Bytes::from_static(b"value"),
        };
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(&schema::LOG, bytes.clone()).unwrap(), record);
        for length in 0..bytes.len() - record.value.len() {
            assert!(Record::decode(&schema::LOG, bytes.slice(..length)).is_err(), "{length}");
        }
        let large = Record { value: vec![0; VALUE_MAX + 1].into(), ..record };
        assert!(matches!(large.encode(), Err(StoreError::TooLarge(_))));
    }
}
