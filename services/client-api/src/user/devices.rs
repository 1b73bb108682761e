//! Devices.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-management>

use axum::routing::MethodFilter;
use http::StatusCode;
use ruma_common::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    auth::Requester,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
    session,
};

/// Adds these endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Required, "/devices", list)
        .json(MethodFilter::GET, Token::Required, "/devices/{device_id}", one)
        .json(MethodFilter::PUT, Token::Required, "/devices/{device_id}", rename)
        .json(MethodFilter::DELETE, Token::Required, "/devices/{device_id}", remove)
        .json(MethodFilter::POST, Token::Required, "/delete_devices", remove_many)
}

fn shown(device: &polity_accounts::Device) -> Value {
    let mut shown = json!({"device_id": device.device_id});
    if let Some(name) = &device.display_name {
        shown["display_name"] = json!(name);
    }
    shown
}

async fn list(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let devices = call.context.api.accounts.devices(requester.tenant, &requester.user_id).await?;
    Ok(json!({"devices": devices.iter().map(shown).collect::<Vec<_>>()}).into())
}

async fn one(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let devices = call.context.api.accounts.devices(requester.tenant, &requester.user_id).await?;
    let id = call.param(0)?;
    let device = devices.iter().find(|device| device.device_id == *id);
    device.map(|device| shown(device).into()).ok_or_else(|| ApiError::not_found("there is no such device"))
}

#[derive(Deserialize)]
struct Rename {
    display_name: Option<String>,
}

async fn rename(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let body: Rename = call.json()?;
    let id = OwnedDeviceId::from(call.param(0)?);
    let accounts = &call.context.api.accounts;
    accounts.rename_device(requester.tenant, &requester.user_id, &id, body.display_name).await?;
    Ok(json!({}).into())
}

#[derive(Deserialize)]
struct Remove {
    #[serde(default)]
    devices: Vec<OwnedDeviceId>,
    auth: Option<Value>,
}

async fn remove(call: Call) -> Result<Answer, ApiError> {
    let body: Remove = call.json()?;
    let id = OwnedDeviceId::from(call.param(0)?);
    remove_all(&call, body.auth, &[id]).await
}

async fn remove_many(call: Call) -> Result<Answer, ApiError> {
    let body: Remove = call.json()?;
    remove_all(&call, body.auth, &body.devices).await
}

async fn remove_all(call: &Call, auth: Option<Value>, ids: &[OwnedDeviceId]) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    if let Some(challenge) = password_stage(call, requester, auth).await? {
        return Ok(challenge);
    }
    call.context.api.accounts.remove_devices(requester.tenant, &requester.user_id, ids).await?;
    Ok(json!({}).into())
}

/// Asks for the password again; the challenge, until it is there and right.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>
pub(crate) async fn password_stage(
    call: &Call,
    requester: &Requester,
    auth: Option<Value>,
) -> Result<Option<Answer>, ApiError> {
    let api = &call.context.api;
    let challenge = |error: Option<&str>| {
        let mut body = json!({
            "session": api.random.alphanumeric(24), "flows": [{"stages": ["m.login.password"]}], "params": {}, "completed": [],
        });
        if let Some(error) = error {
            body["errcode"] = json!("M_FORBIDDEN");
            body["error"] = json!(error);
        }
        Some(Answer::Status(StatusCode::UNAUTHORIZED, body))
    };
    let Some(auth) = auth.filter(|auth| auth["type"] == "m.login.password") else { return Ok(challenge(None)) };
    let user = auth["identifier"]["user"].as_str().or_else(|| auth["user"].as_str()).unwrap_or_default();
    let is_requester = session::user_id_of(&call.context.tenant, user).is_some_and(|user| user == requester.user_id);
    let password = auth["password"].as_str().unwrap_or_default().to_owned();
    if !is_requester {
        return Ok(challenge(Some("that is another user")));
    }
    match api.accounts.check_password(requester.tenant, &requester.user_id, password).await {
        Ok(()) => Ok(None),
        Err(polity_accounts::Error::WrongPassword) => Ok(challenge(Some("wrong password"))),
        Err(error) => Err(error.into()),
    }
}
