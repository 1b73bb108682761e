//! Aliases and the public directory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>, <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

mod public;

use axum::routing::MethodFilter;
use http::StatusCode;
use polity_core::TenantId;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Row, Value, Values, Write, WriteKind, schema,
    values_of,
};
use ruma_common::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Api, ApiError,
    auth::Requester,
    call::{Answer, Call},
    endpoint::Token,
    room::Reader,
    routes::Routes,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    public::routes(routes)
        .json(MethodFilter::GET, Token::None, "/directory/room/{alias}", get)
        .json(MethodFilter::PUT, Token::Required, "/directory/room/{alias}", put)
        .json(MethodFilter::DELETE, Token::Required, "/directory/room/{alias}", delete)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/aliases", of_room)
}

struct Stored {
    version: i64,
    in_use: bool,
    room_id: OwnedRoomId,
    creator: String,
}

async fn read(api: &Api, tenant: TenantId, alias: &RoomAliasId) -> Result<Option<Stored>, ApiError> {
    let partition = values_of![tenant, alias.as_str()];
    let row = api.store.get(&schema::ALIASES, partition, Values::new(), Consistency::Serial).await?;
    let read = |row: Row| {
        let text = |at: usize| row.columns.get(at).and_then(Option::as_ref).and_then(Value::as_text);
        let (version, state) = row.guards?;
        let room_id = OwnedRoomId::try_from(text(0)?).ok()?;
        Some(Stored { version, in_use: state == 1, room_id, creator: text(1)?.to_owned() })
    };
    Ok(row.and_then(read))
}

/// Whether an alias can be made.
pub(crate) async fn check_free(api: &Api, tenant: TenantId, alias: &RoomAliasId) -> Result<(), ApiError> {
    match read(api, tenant, alias).await? {
        Some(stored) if stored.in_use => Err(taken()),
        _ => Ok(()),
    }
}

fn taken() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "M_ROOM_IN_USE", "the alias is taken")
}

/// Makes an alias. Of two at once exactly one wins.
pub(crate) async fn make_alias(
    api: &Api,
    by: &Requester,
    alias: &RoomAliasId,
    room_id: &RoomId,
) -> Result<(), ApiError> {
    let (expect, version) = match read(api, by.tenant, alias).await? {
        None => (Expect::Absent, 1),
        Some(stored) if stored.in_use => {
            return Err(ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", "the alias is taken"));
        }
        Some(stored) => (Expect::Guards(stored.version, 0), stored.version + 1),
    };
    let row = Row::new(Values::new(), bytes::Bytes::from_static(&[1, 0]))
        .guarded(version, 1)
        .with_columns(vec![Some(room_id.as_str().into()), Some(by.user_id.as_str().into())]);
    let condition = Condition { row: Values::new(), expect };
    let partition = values_of![by.tenant, alias.as_str()];
    if api.store.cas(&schema::ALIASES, partition, condition, vec![Change::Put(row)]).await? != Cas::Applied {
        return Err(taken());
    }
    let hint = Write {
        table: &schema::ROOM_ALIASES,
        partition: values_of![by.tenant, room_id.as_str()],
        row: Row::new(values_of![alias.as_str()], bytes::Bytes::from_static(&[1, 0])),
        kind: WriteKind::Plain { ttl_s: 0 },
    };
    Ok(api.store.put(vec![hint], Durability::Acknowledged).await?)
}

/// The room of an alias.
pub(crate) async fn resolve(call: &Call, alias: &str) -> Result<OwnedRoomId, ApiError> {
    let alias = parse(alias)?;
    let stored = read(&call.context.api, call.context.tenant.id, &alias).await?;
    stored
        .filter(|stored| stored.in_use)
        .map(|stored| stored.room_id)
        .ok_or_else(|| ApiError::not_found("there is no such alias"))
}

fn parse(alias: &str) -> Result<OwnedRoomAliasId, ApiError> {
    RoomAliasId::parse(alias).map_err(|_| ApiError::invalid_param(format!("{alias:?} is no room alias")))
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    let room_id = resolve(&call, call.param(0)?).await?;
    Ok(json!({"room_id": room_id, "servers": [call.context.tenant.server_name]}).into())
}

#[derive(Deserialize)]
struct Put {
    room_id: OwnedRoomId,
}

async fn put(call: Call) -> Result<Answer, ApiError> {
    let (body, alias): (Put, _) = (call.json()?, parse(call.param(0)?)?);
    if alias.server_name() != call.context.tenant.server_name {
        return Err(ApiError::invalid_param("the alias is another server's"));
    }
    Reader::member(&call, &body.room_id).await?;
    make_alias(&call.context.api, call.context.requester()?, &alias, &body.room_id).await?;
    Ok(json!({}).into())
}

async fn delete(call: Call) -> Result<Answer, ApiError> {
    let (api, requester, alias) = (&call.context.api, call.context.requester()?, parse(call.param(0)?)?);
    let stored = read(api, requester.tenant, &alias).await?.filter(|stored| stored.in_use);
    let stored = stored.ok_or_else(|| ApiError::not_found("there is no such alias"))?;
    if stored.creator != requester.user_id.as_str() {
        return Err(ApiError::forbidden("only who made an alias may delete it"));
    }
    let row = Row::new(Values::new(), bytes::Bytes::from_static(&[1, 0]))
        .guarded(stored.version + 1, 0)
        .with_columns(vec![Some(stored.room_id.as_str().into()), Some(stored.creator.as_str().into())]);
    let condition = Condition { row: Values::new(), expect: Expect::Guards(stored.version, 1) };
    let partition = values_of![requester.tenant, alias.as_str()];
    api.store.cas(&schema::ALIASES, partition, condition, vec![Change::Put(row)]).await?;
    Ok(json!({}).into())
}

async fn of_room(call: Call) -> Result<Answer, ApiError> {
    let room_id = call.room_id(0)?;
    Reader::member(&call, &room_id).await?;
    let (api, tenant) = (&call.context.api, call.context.tenant.id);
    let partition = values_of![tenant, room_id.as_str()];
    let page = api.store.scan(&schema::ROOM_ALIASES, partition, Bounds::all(), 1000, Consistency::Quorum).await?;
    let mut aliases = Vec::new();
    for row in page.rows {
        // A hint: the alias itself says where it points.
        let alias = row.key.first().and_then(Value::as_text).and_then(|alias| RoomAliasId::parse(alias).ok());
        if let Some(alias) = alias
            && read(api, tenant, &alias).await?.is_some_and(|stored| stored.in_use && stored.room_id == room_id)
        {
            aliases.push(alias);
        }
    }
    Ok(json!({"aliases": aliases}).into())
}
