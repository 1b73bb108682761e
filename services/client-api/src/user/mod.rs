//! What belongs to a user: profile, devices, account data, filters, push rules.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#profiles>, <https://spec.matrix.org/v1.19/client-server-api/#client-config>,
//! <https://spec.matrix.org/v1.19/client-server-api/#device-management>, <https://spec.matrix.org/v1.19/client-server-api/#filtering>

mod devices;
mod profile;
mod push_rules;
mod rooms;

pub use rooms::OwedToRooms;

use axum::routing::MethodFilter;
use polity_store::{Bounds, Consistency, Durability, Row, Write, WriteKind, schema, values_of};
use serde_json::json;

use crate::{
    ApiError,
    auth::Requester,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
};

/// A filter has at most this many bytes.
const FILTER_MAX: usize = 64 * 1024;
/// Filters of a user.
const FILTERS: usize = 1000;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = push_rules::routes(devices::routes(profile::routes(routes)));
    routes
        .json(MethodFilter::POST, Token::Required, "/user/{user_id}/filter", make_filter)
        .json(MethodFilter::GET, Token::Required, "/user/{user_id}/filter/{filter_id}", get_filter)
        .json(MethodFilter::PUT, Token::Required, "/user/{user_id}/account_data/{type}", set_global)
        .json(MethodFilter::GET, Token::Required, "/user/{user_id}/account_data/{type}", get_global)
        .json(MethodFilter::PUT, Token::Required, "/user/{user_id}/rooms/{room_id}/account_data/{type}", set_of_room)
        .json(MethodFilter::GET, Token::Required, "/user/{user_id}/rooms/{room_id}/account_data/{type}", get_of_room)
}

/// The requester, who must be the user of the path.
fn oneself(call: &Call) -> Result<Requester, ApiError> {
    let requester = call.context.requester()?;
    if call.user_id(0)? != requester.user_id {
        return Err(ApiError::forbidden("that is another user's"));
    }
    Ok(requester.clone())
}

async fn make_filter(call: Call) -> Result<Answer, ApiError> {
    let requester = oneself(&call)?;
    let filter: ruma_client_api::filter::FilterDefinition = call.json()?;
    let text = serde_json::to_vec(&filter).map_err(|error| ApiError::bad_json(error.to_string()))?;
    if text.len() > FILTER_MAX {
        return Err(ApiError::new(http::StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "the filter is too large"));
    }
    // Named by its content: the same filter again is no new one.
    let id = hex::encode(&blake3::hash(&text).as_bytes()[..12]);
    let (store, partition) = (&call.context.api.store, values_of![requester.tenant, requester.user_id.as_str()]);
    let there = store.scan(&schema::FILTERS, partition.clone(), Bounds::all(), FILTERS, Consistency::Quorum).await?;
    let named = |row: &Row| row.key.first().and_then(polity_store::Value::as_text) == Some(&id);
    if there.rows.iter().any(named) {
        return Ok(json!({"filter_id": id}).into());
    }
    if there.rows.len() >= FILTERS || there.more {
        return Err(ApiError::new(http::StatusCode::BAD_REQUEST, "M_TOO_LARGE", "there are too many filters"));
    }
    let write = Write {
        table: &schema::FILTERS,
        partition,
        row: Row::new(values_of![id.as_str()], [&[1, 0][..], &text].concat().into()),
        kind: WriteKind::Plain { ttl_s: 0 },
    };
    store.put(vec![write], Durability::Acknowledged).await?;
    Ok(json!({"filter_id": id}).into())
}

/// A stored filter, as JSON.
pub(crate) async fn stored_filter(call: &Call, requester: &Requester, id: &str) -> Result<Vec<u8>, ApiError> {
    let partition = values_of![requester.tenant, requester.user_id.as_str()];
    let row = call.context.api.store.get(&schema::FILTERS, partition, values_of![id], Consistency::Quorum).await?;
    let text = row.and_then(|row| row.value.get(2..).map(<[u8]>::to_vec));
    text.ok_or_else(|| ApiError::not_found("there is no such filter"))
}

async fn get_filter(call: Call) -> Result<Answer, ApiError> {
    let requester = oneself(&call)?;
    Ok(Answer::Bytes(stored_filter(&call, &requester, call.param(1)?).await?.into()))
}

/// Types that clients may not set: the server keeps them.
fn check_type(kind: &str) -> Result<(), ApiError> {
    if matches!(kind, "m.fully_read" | "m.push_rules") {
        return Err(ApiError::new(
            http::StatusCode::METHOD_NOT_ALLOWED,
            "M_BAD_JSON",
            format!("{kind} can't be set this way"),
        ));
    }
    Ok(())
}

async fn set(call: &Call, scope: &str, kind: &str) -> Result<Answer, ApiError> {
    let requester = oneself(call)?;
    check_type(kind)?;
    let value = call.object()?;
    call.context.api.count(&requester, Counted::AccountData)?;
    call.context.api.accounts.set_account_data(requester.tenant, &requester.user_id, (scope, kind), value).await?;
    Ok(json!({}).into())
}

async fn get(call: &Call, scope: &str, kind: &str) -> Result<Answer, ApiError> {
    let requester = oneself(call)?;
    let accounts = &call.context.api.accounts;
    if scope.is_empty() && kind == "m.push_rules" {
        return Ok(Answer::Bytes(accounts.push_rules(requester.tenant, &requester.user_id).await?.into()));
    }
    let value = accounts.account_data(requester.tenant, &requester.user_id, scope, kind).await?;
    value.map(|value| Answer::Bytes(value.into())).ok_or_else(|| ApiError::not_found("there is no such account data"))
}

async fn set_global(call: Call) -> Result<Answer, ApiError> {
    set(&call, "", call.param(1)?).await
}

async fn get_global(call: Call) -> Result<Answer, ApiError> {
    get(&call, "", call.param(1)?).await
}

async fn set_of_room(call: Call) -> Result<Answer, ApiError> {
    set(&call, call.room_id(1)?.as_str(), call.param(2)?).await
}

async fn get_of_room(call: Call) -> Result<Answer, ApiError> {
    get(&call, call.room_id(1)?.as_str(), call.param(2)?).await
}
