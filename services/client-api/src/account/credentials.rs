//! Another password, and the end of an account.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword>

use axum::routing::MethodFilter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    interactive,
    routes::Routes,
};

/// Adds the endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::POST, Token::Required, "/account/password", password).json(
        MethodFilter::POST,
        Token::Required,
        "/account/deactivate",
        deactivate,
    )
}

#[derive(Deserialize)]
struct NewPassword {
    new_password: Option<String>,
    logout_devices: Option<bool>,
    auth: Option<Value>,
}

async fn password(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (NewPassword, _) = (call.json()?, call.context.requester()?);
    if let Some(challenge) = interactive::password_stage(&call, requester, body.auth.as_ref()).await? {
        return Ok(challenge);
    }
    let password = body.new_password.ok_or_else(|| ApiError::missing_param("new_password is missing"))?;
    let keep = body.logout_devices.unwrap_or(true).then_some(&*requester.device_id);
    call.context.api.accounts.set_password(requester.tenant, &requester.user_id, password, keep).await?;
    Ok(json!({}).into())
}

#[derive(Deserialize)]
struct Deactivate {
    auth: Option<Value>,
}

async fn deactivate(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Deactivate, _) = (call.json()?, call.context.requester()?);
    if let Some(challenge) = interactive::password_stage(&call, requester, body.auth.as_ref()).await? {
        return Ok(challenge);
    }
    call.context.api.accounts.deactivate(requester.tenant, &requester.user_id).await?;
    Ok(json!({"id_server_unbind_result": "no-support"}).into())
}
