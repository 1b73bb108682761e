//! Accounts: registration, who one is.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management>

mod shared_secret;

use axum::routing::MethodFilter;
use http::StatusCode;
use polity_accounts::NewDevice;
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, Tenant,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
    session,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    shared_secret::routes(routes)
        .json(MethodFilter::POST, Token::None, "/register", register)
        .json(MethodFilter::GET, Token::None, "/register/available", available)
        .json(MethodFilter::GET, Token::Required, "/account/whoami", whoami)
}

#[derive(Deserialize)]
struct Register {
    username: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    #[serde(default)]
    refresh_token: bool,
    auth: Option<Value>,
}

async fn register(call: Call) -> Result<Answer, ApiError> {
    let body: Register = call.json()?;
    let (api, tenant) = (&call.context.api, &call.context.tenant);
    if call.query("kind") == Some("guest") {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", "there are no guests here"));
    }
    if !api.open_registration {
        return Err(ApiError::forbidden("registration is closed"));
    }
    let localpart = match &body.username {
        Some(username) => username.to_lowercase(),
        None => api.random.alphanumeric(12).to_lowercase(),
    };
    let user_id = new_user_id(tenant, &localpart)?;
    if api.accounts.exists(tenant.id, &user_id).await? {
        return Err(polity_accounts::Error::UserInUse.into());
    }
    let done = body.auth.as_ref().is_some_and(|auth| auth["type"] == "m.login.dummy");
    if !done {
        // The one stage asks for nothing, so its session need not be remembered.
        let challenge = json!({
            "session": api.random.alphanumeric(24), "flows": [{"stages": ["m.login.dummy"]}], "params": {}, "completed": [],
        });
        return Ok(Answer::Status(StatusCode::UNAUTHORIZED, challenge));
    }
    api.count_address(tenant.id, call.context.client.0.ip(), Counted::Registration)?;
    api.accounts.register(tenant.id, &user_id, body.password, false).await?;
    if body.inhibit_login {
        return Ok(json!({"user_id": user_id, "home_server": tenant.server_name}).into());
    }
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh: body.refresh_token,
    };
    let logged_in = api.accounts.log_in(tenant.id, &user_id, device).await?;
    Ok(session::answer(&user_id, &logged_in).into())
}

/// The user id of a name that may be registered.
pub(crate) fn new_user_id(tenant: &Tenant, localpart: &str) -> Result<OwnedUserId, ApiError> {
    let invalid =
        || ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", "user names have a-z, 0-9 and ._=-/+ only");
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    if localpart.is_empty() || !localpart.bytes().all(allowed) {
        return Err(invalid());
    }
    let text = format!("@{localpart}:{}", tenant.server_name);
    UserId::parse(text).ok().filter(|user_id| user_id.as_str().len() <= 255).ok_or_else(invalid)
}

async fn available(call: Call) -> Result<Answer, ApiError> {
    let tenant = &call.context.tenant;
    let username = call.query("username").ok_or_else(|| ApiError::missing_param("username is missing"))?;
    let user_id = new_user_id(tenant, username)?;
    if call.context.api.accounts.exists(tenant.id, &user_id).await? {
        return Err(polity_accounts::Error::UserInUse.into());
    }
    Ok(json!({"available": true}).into())
}

async fn whoami(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    Ok(json!({"user_id": requester.user_id, "device_id": requester.device_id, "is_guest": false}).into())
}
