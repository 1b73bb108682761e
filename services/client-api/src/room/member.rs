//! Membership.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use axum::routing::MethodFilter;
use polity_core::Position;
use polity_store::rooms::{self, memberships};
use ruma_common::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::json;

use super::Reader;
use crate::{
    ApiError,
    call::{Answer, Call},
    directory,
    endpoint::Token,
    limits::Counted,
    room_client::Membership,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::POST, Token::Required, "/join/{room_id_or_alias}", join_any)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/join", join)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/leave", leave)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/forget", forget)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/invite", invite)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/kick", kick)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/ban", ban)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/unban", unban)
        .json(MethodFilter::GET, Token::Required, "/joined_rooms", joined_rooms)
}

#[derive(Deserialize)]
struct Own {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Other {
    user_id: OwnedUserId,
    reason: Option<String>,
}

async fn join_room(call: &Call, room_id: &OwnedRoomId) -> Result<Answer, ApiError> {
    let body: Own = call.json()?;
    let requester = call.context.requester()?;
    call.context.api.count(requester, Counted::Join)?;
    let change = Membership { membership: "join", reason: body.reason, ..Membership::default() };
    call.context.api.set_membership(requester, room_id, &requester.user_id, change, call.context.within()).await?;
    Ok(json!({"room_id": room_id}).into())
}

async fn join_any(call: Call) -> Result<Answer, ApiError> {
    let name = call.param(0)?;
    let room_id = if name.starts_with('#') { directory::resolve(&call, name).await? } else { call.room_id(0)? };
    join_room(&call, &room_id).await
}

async fn join(call: Call) -> Result<Answer, ApiError> {
    join_room(&call, &call.room_id(0)?).await
}

async fn leave(call: Call) -> Result<Answer, ApiError> {
    let body: Own = call.json()?;
    let requester = call.context.requester()?;
    let change = Membership { membership: "leave", reason: body.reason, ..Membership::default() };
    call.context
        .api
        .set_membership(requester, &call.room_id(0)?, &requester.user_id, change, call.context.within())
        .await?;
    Ok(json!({}).into())
}

/// The room disappears from the user's own view until a later join or invitation.
async fn forget(call: Call) -> Result<Answer, ApiError> {
    let (requester, room_id) = (call.context.requester()?, call.room_id(0)?);
    let store = &*call.context.api.store;
    let row = rooms::membership(store, requester.tenant, &requester.user_id, &room_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found("you were never in this room"))?;
    if matches!(row.membership.as_str(), "join" | "invite" | "knock") {
        return Err(ApiError::new(http::StatusCode::BAD_REQUEST, "M_UNKNOWN", "you are still in this room"));
    }
    let at = Position::new(row.position.life, row.position.seq);
    rooms::forget(store, requester.tenant, &requester.user_id, &room_id, at).await?;
    Ok(json!({}).into())
}

async fn change_other(call: &Call, membership: &'static str) -> Result<Answer, ApiError> {
    let (requester, room_id) = (call.context.requester()?, call.room_id(0)?);
    let body: Other = call.json()?;
    call.context.api.count(requester, if membership == "invite" { Counted::Invite } else { Counted::Message })?;
    let change = Membership { membership, reason: body.reason, ..Membership::default() };
    call.context.api.set_membership(requester, &room_id, &body.user_id, change, call.context.within()).await?;
    Ok(json!({}).into())
}

async fn invite(call: Call) -> Result<Answer, ApiError> {
    change_other(&call, "invite").await
}

async fn kick(call: Call) -> Result<Answer, ApiError> {
    let body: Other = call.json()?;
    // A ban isn't lifted by a kick.
    let reader = Reader::member(&call, &call.room_id(0)?).await?;
    match reader.membership_of(&body.user_id).await?.as_deref() {
        Some("join" | "invite" | "knock") => change_other(&call, "leave").await,
        _ => Err(ApiError::forbidden("the user is not in this room")),
    }
}

async fn ban(call: Call) -> Result<Answer, ApiError> {
    change_other(&call, "ban").await
}

async fn unban(call: Call) -> Result<Answer, ApiError> {
    change_other(&call, "unban").await
}

async fn joined_rooms(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let rows = memberships(&*call.context.api.store, requester.tenant, &requester.user_id).await?;
    let joined: Vec<_> = rows.iter().filter(|(_, row)| row.membership == "join").map(|(room_id, _)| room_id).collect();
    Ok(json!({"joined_rooms": joined}).into())
}
