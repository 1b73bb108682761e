//! Values on the wire: written from where they stand, read without a copy.

use bytes::Bytes;
use polity_store::Value;
use scylla::{
    cluster::metadata::{ColumnType, NativeType},
    deserialize::{
        DeserializationError, TypeCheckError,
        row::{ColumnIterator, DeserializeRow},
    },
    frame::response::result::ColumnSpec,
    serialize::{
        SerializationError,
        value::SerializeValue,
        writers::{CellWriter, WrittenCellProof},
    },
};

/// A value to be bound.
#[derive(Debug, Clone)]
pub(crate) enum Bound<'a> {
    /// A value of a key or column.
    Value(&'a Value),
    /// A number of our own.
    Int(i64),
    /// A 32-bit number of our own: a limit or a time to live.
    Short(i32),
    /// Bytes of our own.
    Blob(&'a [u8]),
    /// Null: deletes the cell.
    Null,
    /// The cell stays as it is, which for a new row is null without a tombstone.
    Unset,
}

impl SerializeValue for Bound<'_> {
    // The statement's own columns say what fits; types were checked before (polity_store::check).
    fn serialize<'b>(
        &self,
        _typ: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let written = match self {
            Self::Value(Value::Int(int)) | Self::Int(int) => writer.set_value(&int.to_be_bytes()),
            Self::Short(short) => writer.set_value(&short.to_be_bytes()),
            Self::Value(Value::Text(text)) => writer.set_value(text.as_bytes()),
            Self::Value(Value::Blob(blob)) => writer.set_value(blob),
            Self::Blob(blob) => writer.set_value(blob),
            Self::Null => return Ok(writer.set_null()),
            Self::Unset => return Ok(writer.set_unset()),
        };
        written.map_err(SerializationError::new)
    }
}

/// A row as it was read: its columns in the order of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns(pub(crate) Vec<Option<Value>>);

/// A column that can't be understood.
#[derive(Debug, Clone, thiserror::Error)]
#[error("column {0} has a value that doesn't fit its type")]
struct Misread(String);

impl<'frame, 'metadata> DeserializeRow<'frame, 'metadata> for Columns {
    fn type_check(_specs: &[ColumnSpec<'_>]) -> Result<(), TypeCheckError> {
        Ok(())
    }

    fn deserialize(row: ColumnIterator<'frame, 'metadata>) -> Result<Self, DeserializationError> {
        let mut columns = Vec::with_capacity(row.columns_remaining());
        for column in row {
            let column = column?;
            let value = column.slice.map(|slice| {
                read(column.spec.typ(), slice.to_bytes())
                    .ok_or_else(|| DeserializationError::new(Misread(column.spec.name().to_owned())))
            });
            columns.push(value.transpose()?);
        }
        Ok(Self(columns))
    }
}

pub(crate) fn read(column_type: &ColumnType<'_>, bytes: Bytes) -> Option<Value> {
    let ColumnType::Native(native) = column_type else { return None };
    Some(match native {
        NativeType::BigInt => Value::Int(i64::from_be_bytes(bytes.as_ref().try_into().ok()?)),
        NativeType::Boolean => Value::Int(i64::from(*bytes.first()? != 0)),
        NativeType::Text | NativeType::Ascii => Value::Text(std::str::from_utf8(&bytes).ok()?.into()),
        NativeType::Blob => Value::Blob(bytes),
        _ => return None,
    })
}
