//! `POST /rooms/{roomId}/kick`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick>

use polity_proto::room_state::KickUserRequest;
use ruma_client_api::membership::kick_user::v3::{Request, Response};

use crate::{ApiError, endpoint::Context, limits::Counted};

pub(super) async fn kick(context: Context, request: Request) -> Result<Response, ApiError> {
    context.api.count(context.requester()?, Counted::Message)?;
    let (room_id, user_id, reason) = (request.room_id.into(), request.user_id.into(), request.reason);
    let message = KickUserRequest { requester: context.by()?, room_id, user_id, reason };
    context.rooms().kick_user(context.call(message)).await?;
    Ok(Response::new())
}
