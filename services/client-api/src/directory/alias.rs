//! Room aliases.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use http::StatusCode;
use polity_proto::room_state::SetStateRequest;
use polity_store::rooms::{self, AliasUse};
use polity_sync::read::StateView;
use ruma_client_api::{
    alias::{create_alias, delete_alias, get_alias},
    room::aliases,
};
use ruma_common::{RoomAliasId, RoomId};
use serde_json::{Map, Value};

use super::{exists, resolve};
use crate::{ApiError, endpoint::Context, room::Reader};

pub(super) async fn get(
    context: Context,
    request: get_alias::v3::Request,
) -> Result<get_alias::v3::Response, ApiError> {
    let room_id = resolve(&context, &request.room_alias).await?;
    let room_id = room_id.ok_or_else(|| ApiError::not_found("there is no such alias"))?;
    Ok(get_alias::v3::Response::new(room_id, vec![context.tenant.server_name.clone()]))
}

/// Of two who want one alias exactly one gets it.
pub(super) async fn put(
    context: Context,
    request: create_alias::v3::Request,
) -> Result<create_alias::v3::Response, ApiError> {
    let (alias, room_id) = (&request.room_alias, &request.room_id);
    if alias.server_name() != context.tenant.server_name {
        return Err(ApiError::invalid_param("the alias is another server's"));
    }
    Reader::member(&context, room_id).await?;
    let (api, by) = (&context.api, context.requester()?);
    let (store, now_ms) = (&*api.store, api.clock.now_ms());
    let taken = || ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", "the alias is taken");
    let found = rooms::alias(store, by.tenant, alias).await?;
    if let Some(found) = &found
        && !found.is_free(exists(api, by.tenant, &found.room_id).await?, now_ms)
    {
        return Err(taken());
    }
    let (what, usage) = ((&**room_id, &*by.user_id), (AliasUse::InUse, now_ms));
    let made = rooms::claim_alias(store, by.tenant, alias, found.as_ref(), what, usage).await?;
    made.map(|_| create_alias::v3::Response::new()).ok_or_else(taken)
}

/// Who made an alias may delete it, and who may name its room to the world.
pub(super) async fn delete(
    context: Context,
    request: delete_alias::v3::Request,
) -> Result<delete_alias::v3::Response, ApiError> {
    let (store, by, alias) = (&*context.api.store, context.requester()?, &request.room_alias);
    let unknown = || ApiError::not_found("there is no such alias");
    let room_id = resolve(&context, alias).await?.ok_or_else(unknown)?;
    let found = rooms::alias(store, by.tenant, alias).await?.ok_or_else(unknown)?;
    if found.creator != by.user_id.as_str() {
        let reader = Reader::member(&context, &room_id).await?;
        let (engine, by) = (&reader.api.engine, &by.user_id);
        if !engine.may_send_state(reader.key, &reader.head, by, "m.room.canonical_alias").await? {
            return Err(ApiError::forbidden("not enough power to delete this alias"));
        }
    }
    if !rooms::release_alias(store, by.tenant, alias, &found).await? {
        return Err(unknown());
    }
    if let Err(error) = unname(&context, &room_id, alias).await {
        // The alias is gone whatever becomes of the room's own list.
        tracing::debug!(%error, room = %room_id, "a deleted alias still stands in the room's state");
    }
    Ok(delete_alias::v3::Response::new())
}

/// Takes an alias that is gone out of the room's own list, if the requester may.
async fn unname(context: &Context, room_id: &RoomId, alias: &RoomAliasId) -> Result<(), ApiError> {
    const EVENT_TYPE: &str = "m.room.canonical_alias";
    let reader = Reader::member(context, room_id).await?;
    let state = StateView::at_roots(reader.head.room.roots);
    let Some(row) = reader.api.engine.rooms.state_event(reader.key, &state, EVENT_TYPE, "").await? else {
        return Ok(());
    };
    let content = row.event.as_ref().map_or("{}", |event| event.content.get());
    let mut content: Map<String, Value> =
        serde_json::from_str(content).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let before = content.clone();
    content.retain(|name, value| name != "alias" || *value != *alias.as_str());
    if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
        others.retain(|other| *other != *alias.as_str());
    }
    if content == before {
        return Ok(());
    }
    let request = SetStateRequest {
        requester: context.by()?,
        room_id: room_id.to_string(),
        event_type: EVENT_TYPE.to_owned(),
        state_key: String::new(),
        content: Value::Object(content).to_string().into(),
    };
    context.rooms().set_state(context.call(request)).await?;
    Ok(())
}

/// Who is in a room, or could be, sees its aliases.
pub(super) async fn of_room(
    context: Context,
    request: aliases::v3::Request,
) -> Result<aliases::v3::Response, ApiError> {
    let room_id = &request.room_id;
    let reader = Reader::visitor(&context, room_id).await?;
    let (store, tenant) = (&*reader.api.store, context.tenant.id);
    let mut aliases = Vec::new();
    for alias in rooms::aliases_of(store, tenant, room_id).await? {
        // A hint: the alias itself says where it points.
        if resolve(&context, &alias).await?.as_ref() == Some(room_id) {
            aliases.push(alias);
        }
    }
    Ok(aliases::v3::Response::new(aliases))
}
