//! End-to-end encryption: keys and messages to devices.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

use std::collections::BTreeMap;

use axum::routing::MethodFilter;
use polity_accounts::{Message, OneTimeKey};
use ruma_common::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
    user,
};

/// Users of one request.
const USERS: usize = 2000;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::POST, Token::Required, "/keys/upload", upload)
        .json(MethodFilter::POST, Token::Required, "/keys/query", query)
        .json(MethodFilter::POST, Token::Required, "/keys/claim", claim)
        .json(MethodFilter::POST, Token::Required, "/keys/device_signing/upload", upload_signing)
        .json(MethodFilter::POST, Token::Required, "/keys/signatures/upload", upload_signatures)
        .json(MethodFilter::PUT, Token::Required, "/sendToDevice/{type}/{txn}", send_to_device)
}

#[derive(Deserialize)]
struct Upload {
    device_keys: Option<Value>,
    #[serde(default)]
    one_time_keys: BTreeMap<String, Value>,
    #[serde(default)]
    fallback_keys: BTreeMap<String, Value>,
}

fn keys(keys: BTreeMap<String, Value>) -> Result<Vec<OneTimeKey>, ApiError> {
    let split = |(name, key): (String, Value)| {
        let malformed = || ApiError::invalid_param(format!("{name:?} is no key id"));
        let (algorithm, key_id) = name.split_once(':').ok_or_else(malformed)?;
        let key = key.to_string().into_bytes();
        Ok(OneTimeKey { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), key })
    };
    keys.into_iter().map(split).collect()
}

async fn upload(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Upload, _) = (call.json()?, call.context.requester()?);
    let accounts = &call.context.api.accounts;
    let (tenant, user_id, device_id) = (requester.tenant, &requester.user_id, &requester.device_id);
    if let Some(device_keys) = body.device_keys {
        if device_keys["user_id"] != user_id.as_str() || device_keys["device_id"] != device_id.as_str() {
            return Err(ApiError::invalid_param("the device keys are another device's"));
        }
        accounts.set_device_keys(tenant, user_id, device_id, device_keys.to_string().into_bytes()).await?;
    }
    accounts.upload_one_time_keys(tenant, user_id, device_id, keys(body.one_time_keys)?).await?;
    accounts.set_fallback_keys(tenant, user_id, device_id, keys(body.fallback_keys)?).await?;
    let (counts, _) = accounts.key_counts(tenant, user_id, device_id).await?;
    Ok(json!({"one_time_key_counts": counts}).into())
}

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

async fn query(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Query, _) = (call.json()?, call.context.requester()?);
    let accounts = &call.context.api.accounts;
    if body.device_keys.len() > USERS {
        return Err(ApiError::invalid_param(format!("keys of more than {USERS} users at once")));
    }
    let (mut devices, mut master, mut own, mut user) = (Map::new(), Map::new(), Map::new(), Map::new());
    for (user_id, wanted) in body.device_keys {
        if user_id.server_name() != call.context.tenant.server_name {
            continue;
        }
        let mut keys = Map::new();
        let names = accounts.devices(requester.tenant, &user_id).await?;
        for (device_id, mut key) in accounts.device_keys(requester.tenant, &user_id).await? {
            if wanted.is_empty() || wanted.contains(&device_id) {
                let name = names.iter().find(|device| device.device_id == device_id);
                if let Some(name) = name.and_then(|device| device.display_name.as_deref()) {
                    key["unsigned"] = json!({"device_display_name": name});
                }
                keys.insert(device_id.to_string(), key);
            }
        }
        devices.insert(user_id.to_string(), Value::Object(keys));
        for (usage, out) in [("master", &mut master), ("self_signing", &mut own)] {
            if let Some(key) = accounts.cross_signing(requester.tenant, &user_id, usage, &requester.user_id).await? {
                out.insert(user_id.to_string(), key);
            }
        }
        if user_id == requester.user_id
            && let Some(key) =
                accounts.cross_signing(requester.tenant, &user_id, "user_signing", &requester.user_id).await?
        {
            user.insert(user_id.to_string(), key);
        }
    }
    Ok(json!({
        "device_keys": devices, "failures": {}, "master_keys": master, "self_signing_keys": own, "user_signing_keys": user,
    })
    .into())
}

#[derive(Deserialize)]
struct Claim {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

async fn claim(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Claim, _) = (call.json()?, call.context.requester()?);
    let accounts = &call.context.api.accounts;
    let mut out = Map::new();
    for (user_id, devices) in body.one_time_keys {
        let mut of_user = Map::new();
        for (device_id, algorithm) in devices {
            let claimed = accounts.claim_one_time_key(requester.tenant, &user_id, &device_id, &algorithm).await?;
            if let Some((key_id, key)) = claimed {
                let key: Value = serde_json::from_slice(&key).unwrap_or_default();
                let named = Map::from_iter([(format!("{algorithm}:{key_id}"), key)]);
                of_user.insert(device_id.to_string(), Value::Object(named));
            }
        }
        if !of_user.is_empty() {
            out.insert(user_id.to_string(), Value::Object(of_user));
        }
    }
    Ok(json!({"one_time_keys": out, "failures": {}}).into())
}

#[derive(Deserialize)]
struct Signing {
    master_key: Option<Value>,
    self_signing_key: Option<Value>,
    user_signing_key: Option<Value>,
    auth: Option<Value>,
}

/// The first upload needs no second look at the password, a replacement does.
async fn upload_signing(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Signing, _) = (call.json()?, call.context.requester()?);
    let accounts = &call.context.api.accounts;
    let now = accounts.cross_signing(requester.tenant, &requester.user_id, "master", &requester.user_id).await?;
    let same = |now: &Value, new: &Option<Value>| new.as_ref().is_none_or(|new| new["keys"] == now["keys"]);
    if now.is_some_and(|now| !same(&now, &body.master_key))
        && let Some(challenge) = user::password_stage(&call, requester, body.auth).await?
    {
        return Ok(challenge);
    }
    let named =
        [("master", body.master_key), ("self_signing", body.self_signing_key), ("user_signing", body.user_signing_key)];
    let keys: Vec<_> =
        named.into_iter().filter_map(|(usage, key)| Some((usage, key?.to_string().into_bytes()))).collect();
    accounts.set_cross_signing(requester.tenant, &requester.user_id, keys).await?;
    Ok(json!({}).into())
}

async fn upload_signatures(call: Call) -> Result<Answer, ApiError> {
    let body: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = call.json()?;
    let requester = call.context.requester()?;
    let mut failures = Map::new();
    for (user_id, signed) in body {
        let signed: Vec<_> = signed.into_iter().collect();
        let names: Vec<_> = signed.iter().map(|(name, _)| name.clone()).collect();
        let added =
            call.context.api.accounts.add_signatures(requester.tenant, &user_id, &requester.user_id, signed).await;
        if let Err(error) = added {
            let failure = json!({"errcode": "M_NOT_FOUND", "error": error.to_string()});
            let failed = names.into_iter().map(|name| (name, failure.clone()));
            failures.insert(user_id.to_string(), Value::Object(failed.collect()));
        }
    }
    Ok(json!({"failures": failures}).into())
}

#[derive(Deserialize)]
struct ToDevice {
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Map<String, Value>>>,
}

async fn send_to_device(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (ToDevice, _) = (call.json()?, call.context.requester()?);
    let (event_type, txn) = (call.param(0)?, call.param(1)?);
    let mut messages = Vec::new();
    for (user_id, devices) in body.messages {
        for (device, content) in devices {
            let event = json!({"type": event_type, "sender": requester.user_id, "content": content});
            let device_id = (device != "*").then(|| OwnedDeviceId::from(device));
            messages.push(Message { user_id: user_id.clone(), device_id, event: event.to_string().into_bytes() });
        }
    }
    let txn = format!("{event_type}/{txn}");
    let from = (&*requester.user_id, &*requester.device_id, txn.as_str());
    call.context.api.accounts.send_to_device(requester.tenant, from, messages).await?;
    Ok(json!({}).into())
}
