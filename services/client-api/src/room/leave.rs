//! `POST /rooms/{roomId}/leave`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave>

use polity_proto::room_state::LeaveRoomRequest;
use ruma_client_api::membership::leave_room::v3::{Request, Response};

use crate::{ApiError, endpoint::Context};

pub(super) async fn leave(context: Context, request: Request) -> Result<Response, ApiError> {
    let (room_id, reason) = (request.room_id.to_string(), request.reason);
    let message = LeaveRoomRequest { requester: context.by()?, room_id, reason };
    context.rooms().leave_room(context.call(message)).await?;
    Ok(Response::new())
}
