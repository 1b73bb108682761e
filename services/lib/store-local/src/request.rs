//! A write that waits.

use bytes::Bytes;
use polity_core::Stamp;
use polity_store::{Cas, Durability, Expect, StoreError, Table, Values};
use tokio::sync::oneshot;

use crate::keys;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write that waits for its turn.
pub(crate) enum Request {
    Cas {
        table: &'static Table,
        /// The row of the condition, by its key and its clustering columns.
        row: (Vec<u8>, Values),
        expect: Expect,
        changes: Vec<KeyChange>,
        reply: Reply<Cas>,
    },
    Put {
        writes: Vec<PlainWrite>,
        durability: Durability,
        /// None: whoever wrote it waits for what comes after it.
        reply: Option<Reply<()>>,
    },
    Drop {
        range: (Vec<u8>, Vec<u8>),
        reply: Reply<()>,
    },
}

/// A change of one key within a conditional write.
pub(crate) enum KeyChange {
    Put(Vec<u8>, Bytes),
    /// All keys with `begin <= key < end`.
    Delete(Vec<u8>, Vec<u8>),
}

/// A write without condition.
pub(crate) struct PlainWrite {
    pub(crate) table: &'static Table,
    pub(crate) key: Vec<u8>,
    /// In a projection table: what is written stays only if it is the greatest.
    pub(crate) stamp: Option<Stamp>,
    /// What is written; `None` removes it.
    pub(crate) record: Option<Bytes>,
}

impl Request {
    /// What it holds in memory while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let change = |change: &KeyChange| match change {
            KeyChange::Put(key, record) => key.len() + record.len(),
            KeyChange::Delete(begin, end) => begin.len() + end.len(),
        };
        match self {
            Self::Cas { changes, .. } => changes.iter().map(change).sum(),
            Self::Put { writes, .. } => {
                writes.iter().map(|write| write.key.len() + write.record.as_ref().map_or(0, Bytes::len)).sum()
            }
            Self::Drop { range, .. } => range.0.len() + range.1.len(),
        }
    }
}

/// The keys with `first <= key <= last`, by the first clustering column.
pub(crate) fn delete_range(
    table: &'static Table,
    partition: &[u8],
    first: polity_store::Value,
    last: polity_store::Value,
) -> KeyChange {
    let bounds = polity_store::Bounds {
        from: std::ops::Bound::Included(polity_store::values([first])),
        to: std::ops::Bound::Included(polity_store::values([last])),
        reverse: false,
    };
    let (begin, end) = keys::range(table, partition, &bounds);
    KeyChange::Delete(begin, end)
}
