//! `POST /knock/{roomIdOrAlias}`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use polity_proto::room_state::KnockRoomRequest;
use ruma_client_api::knock::knock_room::v3::{Request, Response};

use crate::{ApiError, directory, endpoint::Context, limits::Counted};

pub(super) async fn knock(context: Context, request: Request) -> Result<Response, ApiError> {
    let (api, requester) = (&context.api, context.requester()?);
    api.count(requester, Counted::Join)?;
    let room_id = directory::room_of(&context, request.room_id_or_alias).await?;
    let reason = request.reason;
    let message = KnockRoomRequest { requester: context.by()?, room_id: room_id.to_string(), reason };
    context.rooms().knock_room(context.call(message)).await?;
    Ok(Response::new(room_id))
}
