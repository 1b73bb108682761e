//! Registration.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use axum::routing::MethodFilter;
use http::StatusCode;
use polity_accounts::{NewAccount, NewDevice};
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, Tenant,
    call::{Answer, Call},
    endpoint::Token,
    interactive,
    limits::Counted,
    routes::Routes,
    session,
};

/// A user id has at most this many bytes.
const USER_ID_MAX: usize = 255;

/// Adds the endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::POST, Token::None, "/register", register).json(
        MethodFilter::GET,
        Token::None,
        "/register/available",
        available,
    )
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
    match call.query("kind") {
        None | Some("user") => {}
        Some("guest") => {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", "there are no guests here"));
        }
        Some(_) => return Err(ApiError::invalid_param("kind is user or guest")),
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
    if let Some(challenge) = interactive::dummy_stage(api, body.auth.as_ref()) {
        return Ok(challenge);
    }
    api.count_address(tenant.id, call.context.client.0.ip(), Counted::Registration)?;
    let device = (!body.inhibit_login).then_some(NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh: body.refresh_token,
    });
    let new = NewAccount { password: body.password, device, ..NewAccount::default() };
    Ok(match api.accounts.register(tenant.id, &user_id, new).await? {
        Some(logged_in) => session::answer(&user_id, &logged_in).into(),
        None => json!({"user_id": user_id, "home_server": tenant.server_name}).into(),
    })
}

/// The user id of a name that may be registered.
pub(super) fn new_user_id(tenant: &Tenant, localpart: &str) -> Result<OwnedUserId, ApiError> {
    let invalid =
        || ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", "user names have a-z, 0-9 and ._=-/+ only");
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    if localpart.is_empty() || !localpart.bytes().all(allowed) {
        return Err(invalid());
    }
    let text = format!("@{localpart}:{}", tenant.server_name);
    UserId::parse(text).ok().filter(|user_id| user_id.as_str().len() <= USER_ID_MAX).ok_or_else(invalid)
}

async fn available(call: Call) -> Result<Answer, ApiError> {
    let (api, tenant) = (&call.context.api, &call.context.tenant);
    let username = call.query("username").ok_or_else(|| ApiError::missing_param("username is missing"))?;
    // As a registration takes it.
    let user_id = new_user_id(tenant, &username.to_lowercase())?;
    if api.accounts.exists(tenant.id, &user_id).await? {
        return Err(polity_accounts::Error::UserInUse.into());
    }
    Ok(json!({"available": true}).into())
}
