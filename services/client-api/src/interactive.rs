//! User-interactive authentication, of one stage: what it asks for comes in one request with the request itself, so a session is
//! a name only and need not be remembered by any process.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    Api, ApiError,
    auth::Requester,
    call::{Answer, Call},
    limits::Counted,
    session,
};

const PASSWORD: &str = "m.login.password";
const DUMMY: &str = "m.login.dummy";

/// Asks for the stage; with why the one that came is no good.
fn challenge(api: &Api, auth: Option<&Value>, stage: &str, error: Option<&str>) -> Answer {
    let named = auth.and_then(|auth| auth["session"].as_str()).filter(|session| session.len() <= 255);
    let session = named.map_or_else(|| api.random.alphanumeric(24), str::to_owned);
    let mut body = json!({"session": session, "flows": [{"stages": [stage]}], "params": {}, "completed": []});
    if let Some(error) = error {
        body["errcode"] = json!("M_FORBIDDEN");
        body["error"] = json!(error);
    }
    Answer::Status(StatusCode::UNAUTHORIZED, body)
}

/// Asks for nothing but a second request; the challenge, until it came.
pub(crate) fn dummy_stage(api: &Api, auth: Option<&Value>) -> Option<Answer> {
    match auth {
        Some(auth) if auth["type"] == DUMMY => None,
        _ => Some(challenge(api, auth, DUMMY, None)),
    }
}

/// Asks for the password again; the challenge, until it is there and right.
pub(crate) async fn password_stage(
    call: &Call,
    requester: &Requester,
    auth: Option<&Value>,
) -> Result<Option<Answer>, ApiError> {
    let api = &call.context.api;
    let Some(stage) = auth.filter(|auth| auth["type"] == PASSWORD) else {
        return Ok(Some(challenge(api, auth, PASSWORD, None)));
    };
    // Whoever found a token must not try passwords faster than whoever has none.
    api.count_address(requester.tenant, call.context.client.0.ip(), Counted::Login)?;
    let user = stage["identifier"]["user"].as_str().or_else(|| stage["user"].as_str()).unwrap_or_default();
    let is_requester = session::user_id_of(&call.context.tenant, user).is_some_and(|user| user == requester.user_id);
    if !is_requester {
        return Err(ApiError::forbidden("that is another user"));
    }
    let password = stage["password"].as_str().unwrap_or_default().to_owned();
    match api.accounts.check_password(requester.tenant, &requester.user_id, password).await {
        Ok(()) => Ok(None),
        Err(polity_accounts::Error::WrongPassword) => Ok(Some(challenge(api, auth, PASSWORD, Some("wrong password")))),
        Err(error) => Err(error.into()),
    }
}
