//! Devices.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-management>

use axum::routing::MethodFilter;
use ruma_common::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    interactive,
    routes::Routes,
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
    let id = OwnedDeviceId::from(call.param(0)?);
    let device = call.context.api.accounts.device(requester.tenant, &requester.user_id, &id).await?;
    device.map(|device| shown(&device).into()).ok_or_else(|| ApiError::not_found("there is no such device"))
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
    auth: Option<Value>,
}

#[derive(Deserialize)]
struct RemoveMany {
    devices: Vec<OwnedDeviceId>,
    auth: Option<Value>,
}

async fn remove(call: Call) -> Result<Answer, ApiError> {
    let body: Remove = call.json()?;
    let id = OwnedDeviceId::from(call.param(0)?);
    remove_all(&call, body.auth, &[id]).await
}

async fn remove_many(call: Call) -> Result<Answer, ApiError> {
    let body: RemoveMany = call.json()?;
    remove_all(&call, body.auth, &body.devices).await
}

async fn remove_all(call: &Call, auth: Option<Value>, ids: &[OwnedDeviceId]) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    if let Some(challenge) = interactive::password_stage(call, requester, auth.as_ref()).await? {
        return Ok(challenge);
    }
    call.context.api.accounts.remove_devices(requester.tenant, &requester.user_id, ids).await?;
    Ok(json!({}).into())
}
