//! `POST /rooms/{roomId}/forget`: the room disappears from the user's own view until a later join or invitation.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget>

use http::StatusCode;
use polity_store::rooms;
use ruma_client_api::membership::forget_room::v3::{Request, Response};

use crate::{ApiError, endpoint::Context};

pub(super) async fn forget(context: Context, request: Request) -> Result<Response, ApiError> {
    let (requester, room_id) = (context.requester()?, &request.room_id);
    let store = &*context.api.store;
    let row = rooms::membership(store, requester.tenant, &requester.user_id, room_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found("you were never in this room"))?;
    if matches!(row.membership.as_str(), "join" | "invite" | "knock") {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "you are still in this room"));
    }
    rooms::forget(store, requester.tenant, &requester.user_id, room_id, row.position).await?;
    Ok(Response::new())
}
