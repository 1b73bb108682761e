//! Aliases and the public directory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>, <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

mod alias;
mod list;
mod public;
mod visibility;

use std::sync::Arc;

use polity_core::TenantId;
use polity_store::rooms::{self, AliasUse};
use polity_sync::read::RoomState;
use ruma_common::{OwnedRoomAliasId, OwnedRoomId, OwnedRoomOrAliasId, RoomAliasId, RoomId};

pub(crate) use list::Directory;

use crate::{Api, ApiError, endpoint::Context, routes::Routes};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    visibility::routes(public::routes(routes)).add(alias::get).add(alias::put).add(alias::delete).add(alias::of_room)
}

/// The room of an alias of this server. A reservation whose room is there is settled: who made them didn't live to do it. One that was
/// given to a room while that was purged points nowhere.
pub(crate) async fn resolve(context: &Context, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>, ApiError> {
    let (api, tenant) = (&context.api, context.tenant.id);
    let Some(found) = rooms::alias(&*api.store, tenant, alias).await? else { return Ok(None) };
    let points = match found.usage {
        AliasUse::InUse => exists(api, tenant, &found.room_id).await?,
        AliasUse::Free => false,
        // Its room may be there already.
        AliasUse::Reserved => {
            let exists = exists(api, tenant, &found.room_id).await?;
            if exists && let Err(error) = rooms::settle_alias(&*api.store, tenant, alias, &found).await {
                // It points there all the same.
                tracing::debug!(%error, "a reserved alias can't be settled");
            }
            exists
        }
    };
    Ok(points.then_some(found.room_id))
}

/// The room that a client names, by its id or an alias.
pub(crate) async fn room_of(context: &Context, name: OwnedRoomOrAliasId) -> Result<OwnedRoomId, ApiError> {
    match OwnedRoomId::try_from(name) {
        Ok(room_id) => Ok(room_id),
        Err(alias) => {
            let room_id = resolve(context, &alias).await?;
            room_id.ok_or_else(|| ApiError::not_found("there is no such alias"))
        }
    }
}

/// Whether a room has begun.
pub(crate) async fn exists(api: &Api, tenant: TenantId, room_id: &RoomId) -> Result<bool, ApiError> {
    Ok(api.head_of(tenant, room_id).await?.is_some())
}

impl Api {
    /// A room at its head, if it has begun.
    pub(crate) async fn head_of(&self, tenant: TenantId, room_id: &RoomId) -> Result<Option<Arc<RoomState>>, ApiError> {
        let Some(key) = self.engine.rooms.key(tenant, room_id).await? else { return Ok(None) };
        Ok(self.engine.rooms.fresh_head(key).await?)
    }
}

pub(crate) fn parse(alias: &str) -> Result<OwnedRoomAliasId, ApiError> {
    RoomAliasId::parse(alias).map_err(|_| ApiError::invalid_param(format!("{alias:?} is no room alias")))
}
