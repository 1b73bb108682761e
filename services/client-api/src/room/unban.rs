//! `POST /rooms/{roomId}/unban`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban>

use polity_proto::room_state::UnbanUserRequest;
use ruma_client_api::membership::unban_user::v3::{Request, Response};

use crate::{ApiError, endpoint::Context, limits::Counted};

pub(super) async fn unban(context: Context, request: Request) -> Result<Response, ApiError> {
    context.api.count(context.requester()?, Counted::Message)?;
    let (room_id, user_id, reason) = (request.room_id.into(), request.user_id.into(), request.reason);
    let message = UnbanUserRequest { requester: context.by()?, room_id, user_id, reason };
    context.rooms().unban_user(context.call(message)).await?;
    Ok(Response::new())
}
