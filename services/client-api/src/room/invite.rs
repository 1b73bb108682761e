//! `POST /rooms/{roomId}/invite`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use polity_proto::room_state::InviteUserRequest;
use ruma_client_api::membership::invite_user::v3::{InvitationRecipient, Request, Response};

use crate::{ApiError, endpoint::Context, limits::Counted};

pub(super) async fn invite(context: Context, request: Request) -> Result<Response, ApiError> {
    let (api, requester) = (&context.api, context.requester()?);
    let InvitationRecipient::UserId(invited) = request.recipient else { return Err(third_party()) };
    api.count(requester, Counted::Invite)?;
    let message = InviteUserRequest {
        requester: context.by()?,
        room_id: request.room_id.into(),
        user_id: invited.user_id.into(),
        reason: invited.reason,
        is_direct: false,
    };
    context.rooms().invite_user(context.call(message)).await?;
    Ok(Response::new())
}

/// This server asks no identity server.
pub(super) fn third_party() -> ApiError {
    ApiError::forbidden("this server doesn't look up third-party identifiers")
}
