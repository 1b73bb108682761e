//! The values of key and data columns.

use bytes::Bytes;
use polity_core::{LogId, TenantId};
use smallvec::SmallVec;

/// A value of one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// CQL `bigint`.
    Int(i64),
    /// CQL `text`: UTF-8. Made from `String`, so always valid.
    Text(Box<str>),
    /// CQL `blob`.
    Blob(Bytes),
}

/// The values of a few columns, in the order in which the table names them.
pub type Values = SmallVec<[Value; 3]>;

/// Collects values: `values![tenant, log, 7]`.
#[macro_export]
macro_rules! values_of {
    ($($value:expr),* $(,)?) => { $crate::values([$($crate::Value::from($value)),*]) };
}

/// Collects values.
pub fn values<const N: usize>(values: [Value; N]) -> Values {
    values.into_iter().collect()
}

impl Value {
    /// The number, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The bytes, if they are some.
    #[must_use]
    pub fn as_blob(&self) -> Option<&Bytes> {
        if let Self::Blob(blob) = self { Some(blob) } else { None }
    }

    /// How many bytes of payload it has.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(blob) => blob.len(),
        }
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(blob: Vec<u8>) -> Self {
        Self::Blob(blob.into())
    }
}

impl From<Bytes> for Value {
    fn from(blob: Bytes) -> Self {
        Self::Blob(blob)
    }
}

impl From<TenantId> for Value {
    fn from(tenant: TenantId) -> Self {
        Self::Int(tenant.to_i64())
    }
}

impl From<LogId> for Value {
    fn from(log: LogId) -> Self {
        Self::Blob(Bytes::copy_from_slice(log.as_bytes()))
    }
}
