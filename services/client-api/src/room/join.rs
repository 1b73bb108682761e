//! `POST /rooms/{roomId}/join` and `POST /join/{roomIdOrAlias}`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#joining-rooms>

use polity_proto::room_state::JoinRoomRequest;
use ruma_client_api::membership::{join_room_by_id, join_room_by_id_or_alias};
use ruma_common::RoomId;

use crate::{ApiError, directory, endpoint::Context, limits::Counted};

pub(super) async fn by_id(
    context: Context,
    request: join_room_by_id::v3::Request,
) -> Result<join_room_by_id::v3::Response, ApiError> {
    join(&context, &request.room_id, request.reason).await?;
    Ok(join_room_by_id::v3::Response::new(request.room_id))
}

/// The servers in `via` would be asked for a room that isn't here.
pub(super) async fn by_id_or_alias(
    context: Context,
    request: join_room_by_id_or_alias::v3::Request,
) -> Result<join_room_by_id_or_alias::v3::Response, ApiError> {
    let room_id = directory::room_of(&context, request.room_id_or_alias).await?;
    join(&context, &room_id, request.reason).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(room_id))
}

async fn join(context: &Context, room_id: &RoomId, reason: Option<String>) -> Result<(), ApiError> {
    let (api, requester) = (&context.api, context.requester()?);
    api.count(requester, Counted::Join)?;
    let request = JoinRoomRequest { requester: context.by()?, room_id: room_id.to_string(), reason };
    context.rooms().join_room(context.call(request)).await?;
    Ok(())
}
