//! Logging in and out.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#legacy-api>

use axum::routing::MethodFilter;
use http::StatusCode;
use polity_accounts::{LoggedIn, NewDevice};
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, Tenant,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::None, "/login", flows)
        .json(MethodFilter::POST, Token::None, "/login", login)
        .json(MethodFilter::POST, Token::None, "/refresh", refresh)
        .json(MethodFilter::POST, Token::Required, "/logout", logout)
        .json(MethodFilter::POST, Token::Required, "/logout/all", logout_all)
}

async fn flows(_call: Call) -> Result<Answer, ApiError> {
    Ok(json!({"flows": [{"type": "m.login.password"}]}).into())
}

#[derive(Deserialize)]
struct Login {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    user: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    user: Option<String>,
}

async fn login(call: Call) -> Result<Answer, ApiError> {
    let body: Login = call.json()?;
    let (api, tenant) = (&call.context.api, &call.context.tenant);
    if body.kind != "m.login.password" {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "only m.login.password is supported"));
    }
    api.count_address(tenant.id, call.context.client.0.ip(), Counted::Login)?;
    let user = match body.identifier {
        Some(Identifier { kind, user }) if kind == "m.id.user" => user,
        Some(_) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "unknown kind of identifier")),
        None => body.user,
    };
    let user = user.ok_or_else(|| ApiError::missing_param("identifier.user is missing"))?;
    let password = body.password.ok_or_else(|| ApiError::missing_param("password is missing"))?;
    let user_id = user_id_of(tenant, &user).ok_or_else(|| ApiError::forbidden("wrong user name or password"))?;
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh: body.refresh_token,
    };
    let logged_in = api.accounts.log_in(tenant.id, &user_id, password, device).await?;
    let mut answer = answer(&user_id, &logged_in);
    answer["well_known"] = json!({"m.homeserver": {"base_url": tenant.public_baseurl}});
    Ok(answer.into())
}

/// A localpart or a whole user id of this tenant. Names are registered in lower case, whatever people write.
pub(crate) fn user_id_of(tenant: &Tenant, user: &str) -> Option<OwnedUserId> {
    let (localpart, server_name) = match user.strip_prefix('@').and_then(|user| user.split_once(':')) {
        Some(parts) => parts,
        None => (user, tenant.server_name.as_str()),
    };
    let user_id = UserId::parse(format!("@{}:{server_name}", localpart.to_lowercase())).ok()?;
    (user_id.server_name() == tenant.server_name).then_some(user_id)
}

/// What a login answers.
pub(crate) fn answer(user_id: &UserId, logged_in: &LoggedIn) -> Value {
    let mut answer = json!({
        "user_id": user_id,
        "access_token": logged_in.access_token,
        "device_id": logged_in.device_id,
        "home_server": user_id.server_name(),
    });
    if let Some(refresh_token) = &logged_in.refresh_token {
        answer["refresh_token"] = json!(refresh_token);
    }
    if let Some(ms) = logged_in.expires_in_ms {
        answer["expires_in_ms"] = json!(ms);
    }
    answer
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

async fn refresh(call: Call) -> Result<Answer, ApiError> {
    let body: Refresh = call.json()?;
    let tenant = &call.context.tenant;
    let new = call.context.api.accounts.refresh(tenant.id, &tenant.server_name, &body.refresh_token).await?;
    Ok(json!({"access_token": new.access_token, "refresh_token": new.refresh_token, "expires_in_ms": new.expires_in_ms}).into())
}

async fn logout(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let devices = [requester.device_id.clone()];
    call.context.api.accounts.remove_devices(requester.tenant, &requester.user_id, &devices).await?;
    Ok(json!({}).into())
}

async fn logout_all(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let accounts = &call.context.api.accounts;
    let devices = accounts.devices(requester.tenant, &requester.user_id).await?;
    let ids: Vec<_> = devices.into_iter().map(|device| device.device_id).collect();
    accounts.remove_devices(requester.tenant, &requester.user_id, &ids).await?;
    Ok(json!({}).into())
}
