//! Cross-signing.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeMap;

use axum::routing::MethodFilter;
use polity_accounts::{CrossSigningKey, Error};
use ruma_common::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    interactive,
    routes::Routes,
};

/// Adds the endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::POST, Token::Required, "/keys/device_signing/upload", upload_keys).json(
        MethodFilter::POST,
        Token::Required,
        "/keys/signatures/upload",
        upload_signatures,
    )
}

#[derive(Deserialize)]
struct Upload {
    master_key: Option<Map<String, Value>>,
    self_signing_key: Option<Map<String, Value>>,
    user_signing_key: Option<Map<String, Value>>,
    auth: Option<Value>,
}

/// The first upload needs no second look at the password, a replacement does.
async fn upload_keys(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Upload, _) = (call.json()?, call.context.requester()?);
    let accounts = &call.context.api.accounts;
    let named =
        [("master", body.master_key), ("self_signing", body.self_signing_key), ("user_signing", body.user_signing_key)];
    let keys = named.into_iter().filter_map(|(usage, key)| Some(CrossSigningKey { usage, key: Value::Object(key?) }));
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() {
        return Err(ApiError::missing_param("there is no key"));
    }
    match accounts.set_cross_signing(requester.tenant, &requester.user_id, &keys, false).await {
        Ok(()) => return Ok(json!({}).into()),
        Err(Error::Unproven) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(challenge) = interactive::password_stage(&call, requester, body.auth.as_ref()).await? {
        return Ok(challenge);
    }
    accounts.set_cross_signing(requester.tenant, &requester.user_id, &keys, true).await?;
    Ok(json!({}).into())
}

/// Signatures by the requester on keys, each taken or refused for itself.
async fn upload_signatures(call: Call) -> Result<Answer, ApiError> {
    let body: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = call.json()?;
    let (accounts, requester) = (&call.context.api.accounts, call.context.requester()?);
    let mut failures = Map::new();
    for (user_id, signed) in body {
        let signed = signed.into_iter().collect();
        let failed = accounts.add_signatures(requester.tenant, &user_id, &requester.user_id, signed).await?;
        let shown = |(name, error): (String, Error)| {
            let message = error.to_string();
            (name, json!({"errcode": ApiError::from(error).errcode(), "error": message}))
        };
        if !failed.is_empty() {
            failures.insert(user_id.to_string(), Value::Object(failed.into_iter().map(shown).collect()));
        }
    }
    Ok(json!({"failures": failures}).into())
}
