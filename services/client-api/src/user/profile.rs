//! Profiles.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use axum::routing::MethodFilter;
use polity_accounts::PROFILE_FIELDS;
use serde_json::{Map, Value, json};

use super::oneself;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
};

/// Adds these endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Optional, "/profile/{user_id}", whole)
        .json(MethodFilter::GET, Token::Optional, "/profile/{user_id}/{field}", field)
        .json(MethodFilter::PUT, Token::Required, "/profile/{user_id}/{field}", set)
        .json(MethodFilter::DELETE, Token::Required, "/profile/{user_id}/{field}", remove)
}

async fn whole(call: Call) -> Result<Answer, ApiError> {
    let (api, tenant, user_id) = (&call.context.api, &call.context.tenant, call.user_id(0)?);
    let profile = api.accounts.profile(tenant.id, &user_id).await?;
    let fields = profile.into_iter().map(|(field, value)| (field, Value::from(value)));
    Ok(Value::Object(fields.collect()).into())
}

fn known(field: &str) -> Result<&str, ApiError> {
    PROFILE_FIELDS.into_iter().find(|known| *known == field).ok_or_else(ApiError::unrecognized)
}

async fn field(call: Call) -> Result<Answer, ApiError> {
    let (api, tenant, user_id) = (&call.context.api, &call.context.tenant, call.user_id(0)?);
    let field = known(call.param(1)?)?;
    let value = api.accounts.profile(tenant.id, &user_id).await?.remove(field);
    let value = value.ok_or_else(|| ApiError::not_found(format!("the user has set no {field}")))?;
    Ok(json!({field: value}).into())
}

async fn set(call: Call) -> Result<Answer, ApiError> {
    let requester = oneself(&call)?;
    call.context.api.count(&requester, Counted::Profile)?;
    let field = known(call.param(1)?)?.to_owned();
    let body: Map<String, Value> = call.json()?;
    let value = match body.get(&field) {
        None | Some(Value::Null) => None,
        Some(Value::String(value)) => Some(value.clone()).filter(|value| !value.is_empty()),
        Some(_) => return Err(ApiError::bad_json(format!("{field} must be a string"))),
    };
    // The rooms are told by a job of the record: a user in a thousand rooms doesn't wait for them.
    call.context.api.accounts.set_profile(requester.tenant, &requester.user_id, &field, value).await?;
    Ok(json!({}).into())
}

async fn remove(call: Call) -> Result<Answer, ApiError> {
    let requester = oneself(&call)?;
    call.context.api.count(&requester, Counted::Profile)?;
    let field = known(call.param(1)?)?;
    call.context.api.accounts.set_profile(requester.tenant, &requester.user_id, field, None).await?;
    Ok(json!({}).into())
}
