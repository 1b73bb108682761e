//! Room aliases.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use http::StatusCode;
use polity_store::rooms::{self, AliasUse};
use ruma_client_api::{
    alias::{create_alias, delete_alias, get_alias},
    room::aliases,
};

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
    Ok(delete_alias::v3::Response::new())
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
