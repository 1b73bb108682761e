//! The public room directory, spread over shards so that no partition grows without bound.

use polity_core::{Position, Stamp, TenantId};
use ruma_common::{OwnedRoomId, RoomId};

use crate::{Bounds, Consistency, Row, Store, StoreError, Value, Write, WriteKind, pages, schema, values_of};

/// How many shards there are.
pub const DIRECTORY_SHARDS: i64 = 16;
const VERSION: u8 = 1;

fn shard(room_id: &RoomId) -> i64 {
    // Any spread does; this one never changes.
    i64::from(
        room_id.as_bytes().iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) % 16,
    )
}

/// The write that puts a room into the directory or takes it out, as decided at a position of its log.
#[must_use]
pub fn put_listing(tenant: TenantId, room_id: &RoomId, listed: bool, at: Position) -> Write {
    Write {
        table: &schema::PUBLIC_ROOMS,
        partition: values_of![tenant, shard(room_id)],
        row: Row::new(values_of![room_id.as_str()], bytes::Bytes::from_static(&[1, 0]))
            .with_columns(vec![Some(Value::Int(listed.into()))]),
        kind: WriteKind::Projection(Stamp::new(at, VERSION)),
    }
}

/// All listed rooms of a tenant, in no order.
///
/// # Errors
/// When the store can't be read.
pub async fn listed_rooms(store: &dyn Store, tenant: TenantId) -> Result<Vec<OwnedRoomId>, StoreError> {
    let mut rooms = Vec::new();
    for shard in 0..DIRECTORY_SHARDS {
        let partition = values_of![tenant, shard];
        // With them stand those that were listed once.
        let rows_of_shard =
            pages::rows(store, &schema::PUBLIC_ROOMS, partition, Bounds::all(), usize::MAX, Consistency::Quorum)
                .await?;
        let listed = rows_of_shard.iter().filter(|row| row.columns.first() == Some(&Some(Value::Int(1))));
        rooms.extend(listed.filter_map(|row| OwnedRoomId::try_from(row.key.first()?.as_text()?).ok()));
    }
    Ok(rooms)
}
