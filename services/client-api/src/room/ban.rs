//! `POST /rooms/{roomId}/ban`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban>

use polity_proto::room_state::BanUserRequest;
use ruma_client_api::membership::ban_user::v3::{Request, Response};

use crate::{ApiError, endpoint::Context, limits::Counted};

pub(super) async fn ban(context: Context, request: Request) -> Result<Response, ApiError> {
    context.api.count(context.requester()?, Counted::Message)?;
    let (room_id, user_id, reason) = (request.room_id.into(), request.user_id.into(), request.reason);
    let message = BanUserRequest { requester: context.by()?, room_id, user_id, reason };
    context.rooms().ban_user(context.call(message)).await?;
    Ok(Response::new())
}
