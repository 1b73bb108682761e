//! Memberships by user: where to look, never the truth (that is the state at a head).

use polity_core::{
    Position, Seq, Stamp, TenantId,
    mutation::{Mutation, planted},
};
use ruma_common::{OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use crate::{Bounds, Consistency, Row, Store, StoreError, Value, Write, WriteKind, codec, pages, schema, values_of};

/// The version of this projection.
const VERSION: u8 = 1;

/// What a user is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// `join`, `invite`, `leave`, `ban` or `knock`.
    pub membership: String,
    /// The row that said so.
    pub position: Position,
    /// Where this stretch, invitation or absence began.
    pub since: Seq,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    membership: String,
    since: Seq,
}

/// The write that notes a membership.
///
/// # Errors
/// Never in practice: encoding into memory.
pub fn put_membership(
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
    membership: &Membership,
) -> Result<Write, StoreError> {
    let stored = Stored { membership: membership.membership.clone(), since: membership.since };
    let value = codec::encode(schema::MEMBERSHIPS.name, &stored)?;
    Ok(Write {
        table: &schema::MEMBERSHIPS,
        partition: values_of![tenant, user_id.as_str()],
        row: Row::new(values_of![room_id.as_str()], value)
            .with_columns(vec![Some(Value::from(membership.membership.as_str()))]),
        kind: WriteKind::Projection(Stamp::new(membership.position, VERSION)),
    })
}

/// All rooms that a user is or was in.
///
/// # Errors
/// When the store can't be read.
pub async fn memberships(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
) -> Result<Vec<(OwnedRoomId, Membership)>, StoreError> {
    let partition = values_of![tenant, user_id.as_str()];
    let rows =
        pages::rows(store, &schema::MEMBERSHIPS, partition, Bounds::all(), usize::MAX, Consistency::Quorum).await?;
    let room_of = |row: &Row| {
        let room_id = row.key.first().and_then(Value::as_text).and_then(|text| OwnedRoomId::try_from(text).ok());
        room_id.ok_or_else(|| StoreError::corrupt(schema::MEMBERSHIPS.name, "a room id"))
    };
    rows.iter().map(|row| Ok((room_of(row)?, read(row)?))).collect()
}

/// What a user is or was in one room.
///
/// # Errors
/// When the store can't be read.
pub async fn membership(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
) -> Result<Option<Membership>, StoreError> {
    let partition = values_of![tenant, user_id.as_str()];
    let row = store.get(&schema::MEMBERSHIPS, partition, values_of![room_id.as_str()], Consistency::Quorum).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<Membership, StoreError> {
    let stored: Stored = codec::decode(schema::MEMBERSHIPS.name, &row.value)?;
    let stamp = row.stamp.ok_or_else(|| StoreError::corrupt(schema::MEMBERSHIPS.name, "a row without stamp"))?;
    Ok(Membership { membership: stored.membership, position: stamp.position(), since: stored.since })
}

/// Notes that a user forgot a room at a position. Only a later join or invite undoes it: it is compared with `since`.
///
/// # Errors
/// When the store can't be written.
pub async fn forget(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
    at: Position,
) -> Result<(), StoreError> {
    let write = Write {
        table: &schema::FORGOTTEN,
        partition: values_of![tenant, user_id.as_str()],
        row: Row::new(values_of![room_id.as_str()], codec::encode(schema::FORGOTTEN.name, &())?),
        kind: WriteKind::Projection(Stamp::new(at, VERSION)),
    };
    store.put(vec![write], crate::Durability::Acknowledged).await
}

/// Where a user forgot a room, if ever.
///
/// # Errors
/// When the store can't be read.
pub async fn forgotten(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
) -> Result<Option<Position>, StoreError> {
    let partition = values_of![tenant, user_id.as_str()];
    let row = store.get(&schema::FORGOTTEN, partition, values_of![room_id.as_str()], Consistency::Quorum).await?;
    let row = row.filter(|row| !planted(Mutation::ForgetCleared) || !row.value.is_empty());
    Ok(row.and_then(|row| row.stamp).map(Stamp::position))
}

/// A projection of a leave that takes back that the room was forgotten ([`Mutation::ForgetCleared`]).
#[must_use]
pub fn forget_cleared(tenant: TenantId, user_id: &UserId, room_id: &RoomId, at: Position) -> Write {
    Write {
        table: &schema::FORGOTTEN,
        partition: values_of![tenant, user_id.as_str()],
        row: Row::new(values_of![room_id.as_str()], bytes::Bytes::new()),
        kind: WriteKind::Projection(Stamp::new(at, VERSION + 1)),
    }
}
