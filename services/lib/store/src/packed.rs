//! A row's value and its index columns as one blob: what an embedded store keeps, and the one cell that a projection row is in CQL.
//!
//! CQL resolves every cell by itself: of two writes with one stamp the greater *cell* stays, and a null beats every value. So a row of
//! several cells could become a mixture that nobody wrote. A projection row is therefore one cell, and the order between equal
//! stamps is the order of these bytes, which begin with the value. The index columns beside it are for an operator's eyes.
//!
//! Layout: the value, the columns (a tag each, then a number or a length and bytes; nulls at the end are left out), the length of
//! the columns (32 bits, big-endian). A reader that knows fewer columns than were written leaves the rest alone.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Value;

const NULL: u8 = 0;
const INT: u8 = 1;
const TEXT: u8 = 2;
const BLOB: u8 = 3;
const LENGTH: usize = 4;

/// Appends the blob of these columns and this value.
pub fn pack(columns: &[Option<Value>], value: &[u8], out: &mut BytesMut) {
    out.put_slice(value);
    let begin = out.len();
    let used = columns.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    for column in &columns[..used] {
        match column {
            None => out.put_u8(NULL),
            Some(Value::Int(int)) => {
                out.put_u8(INT);
                out.put_i64(*int);
            }
            Some(Value::Text(text)) => put_bytes(TEXT, text.as_bytes(), out),
            Some(Value::Blob(blob)) => put_bytes(BLOB, blob, out),
        }
    }
    out.put_u32(length(out.len() - begin));
}

/// Takes the blob apart into columns and value, which shares the bytes; `None` if it isn't one.
#[must_use]
pub fn unpack(mut packed: Bytes) -> Option<(Vec<Option<Value>>, Bytes)> {
    let mut length = packed.split_off(packed.len().checked_sub(LENGTH)?);
    let columns_begin = packed.len().checked_sub(usize::try_from(length.get_u32()).ok()?)?;
    let mut rest = packed.split_off(columns_begin);
    let mut columns = Vec::new();
    while rest.has_remaining() {
        columns.push(unpack_column(&mut rest)?);
    }
    Some((columns, packed))
}

/// How many bytes [`pack`] appends at most.
#[must_use]
pub fn packed_size(columns: &[Option<Value>], value: &[u8]) -> usize {
    value.len() + LENGTH + columns.iter().map(|column| 9 + column.as_ref().map_or(0, Value::size)).sum::<usize>()
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut BytesMut) {
    out.put_u8(tag);
    out.put_u32(length(bytes.len()));
    out.put_slice(bytes);
}

/// Rows are far below 4 GiB: see [`crate::check::ROW_MAX`].
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn unpack_column(rest: &mut Bytes) -> Option<Option<Value>> {
    let bytes = |rest: &mut Bytes| {
        let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
        (length <= rest.len()).then(|| rest.split_to(length))
    };
    Some(match rest.try_get_u8().ok()? {
        NULL => None,
        INT => Some(Value::Int(rest.try_get_i64().ok()?)),
        TEXT => Some(Value::Text(std::str::from_utf8(&bytes(rest)?).ok()?.into())),
        BLOB => Some(Value::Blob(bytes(rest)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(columns: &[Option<Value>], value: &'static [u8]) -> Bytes {
        let mut out = BytesMut::new();
        pack(columns, value, &mut out);
        assert!(out.len() <= packed_size(columns, value));
        out.freeze()
    }

    #[test]
    fn what_is_packed_comes_back_without_nulls_at_the_end() {
        let all = [None, Some(Value::Int(-3)), Some("text".into()), Some(Value::Blob(Bytes::from_static(b"\0"))), None];
        let (columns, value) = unpack(packed(&all, b"value")).unwrap();
        assert_eq!((&columns[..], &value[..]), (&all[..4], &b"value"[..]));
        assert_eq!(unpack(packed(&[None, None], b"")).unwrap(), (Vec::new(), Bytes::new()));
        let whole = packed(&all, b"");
        for length in 0..whole.len() {
            assert!(unpack(whole.slice(length + 1..)).is_none(), "{length}");
        }
        assert!(unpack(Bytes::from_static(&[9, 0, 0, 0, 1])).is_none());
    }

    #[test]
    fn the_value_decides_the_order_then_the_columns() {
        let listed = |listed: i64, change: &'static [u8]| packed(&[Some(Value::Int(listed))], change);
        assert!(listed(1, b"\x01") < listed(0, b"\x02"));
        assert!(listed(0, b"\x01") < listed(1, b"\x01"));
    }
}
