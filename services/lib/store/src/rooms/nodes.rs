//! Nodes of room states: immutable, by their hash. A write is never skipped because a read says that the node is there.

use bytes::Bytes;
use polity_core::LogKey;

use crate::{Consistency, Row, Store, StoreError, Values, Write, WriteKind, schema, values_of};

fn partition(key: LogKey, generation: u32, hash: &[u8; 32]) -> Values {
    crate::values([
        key.tenant.into(),
        key.log.into(),
        i64::from(generation).into(),
        Bytes::copy_from_slice(hash).into(),
    ])
}

/// The write of a node.
#[must_use]
pub fn put_state_node(key: LogKey, generation: u32, hash: &[u8; 32], node: Bytes) -> Write {
    Write {
        table: &schema::STATE_NODES,
        partition: partition(key, generation, hash),
        row: Row::new(Values::new(), node),
        kind: WriteKind::Plain { ttl_s: 0 },
    }
}

/// A node's bytes, if it is there: where its room is purged it may not be.
///
/// # Errors
/// When the store can't be read.
pub async fn state_node_if_there(
    store: &dyn Store,
    key: LogKey,
    generation: u32,
    hash: &[u8; 32],
) -> Result<Option<Bytes>, StoreError> {
    let found = store.get(&schema::STATE_NODES, partition(key, generation, hash), values_of![], Consistency::Quorum);
    Ok(found.await?.map(|row| row.value))
}

/// Drops a node of a room that is purged.
///
/// # Errors
/// It may or may not be gone.
pub async fn drop_state_node(
    store: &dyn Store,
    key: LogKey,
    generation: u32,
    hash: &[u8; 32],
) -> Result<(), StoreError> {
    store.drop_partition(&schema::STATE_NODES, partition(key, generation, hash)).await
}

/// A node's bytes.
///
/// # Errors
/// When the store can't be read, or the node isn't there: states don't lose nodes.
pub async fn state_node(store: &dyn Store, key: LogKey, generation: u32, hash: &[u8; 32]) -> Result<Bytes, StoreError> {
    let found = state_node_if_there(store, key, generation, hash).await?;
    found.ok_or_else(|| StoreError::corrupt(schema::STATE_NODES.name, "a node is missing"))
}
