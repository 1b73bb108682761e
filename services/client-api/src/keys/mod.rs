//! End-to-end encryption: keys and messages to devices.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

mod changes;
mod cross_signing;
mod to_device;

use std::collections::BTreeMap;

use axum::routing::MethodFilter;
use futures_util::{StreamExt, TryStreamExt, stream};
use polity_accounts::{Claimed, DeviceRef, KeyUpload, OneTimeKey, Wanted};
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Users of one request.
const USERS: usize = 2000;
/// Devices of which one request claims keys.
const CLAIMS: usize = 10_000;
/// Users of one request that are looked at at once.
const AT_ONCE: usize = 32;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    changes::routes(to_device::routes(cross_signing::routes(routes)))
        .json(MethodFilter::POST, Token::Required, "/keys/upload", upload)
        .json(MethodFilter::POST, Token::Required, "/keys/query", query)
        .json(MethodFilter::POST, Token::Required, "/keys/claim", claim)
}

#[derive(Deserialize)]
struct Upload {
    // An object: for serde an array would do for the struct.
    device_keys: Option<Map<String, Value>>,
    #[serde(default)]
    one_time_keys: BTreeMap<String, Value>,
    #[serde(default)]
    fallback_keys: BTreeMap<String, Value>,
}

fn keys(keys: BTreeMap<String, Value>) -> Result<Vec<OneTimeKey>, ApiError> {
    let split = |(name, key): (String, Value)| {
        let malformed = || ApiError::invalid_param(format!("{name:?} is no key id"));
        let (algorithm, key_id) = name.split_once(':').ok_or_else(malformed)?;
        if !key.is_string() && !key.is_object() {
            return Err(ApiError::bad_json(format!("{name:?} is neither a text nor an object")));
        }
        let key = key.to_string().into_bytes();
        Ok(OneTimeKey { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), key })
    };
    keys.into_iter().map(split).collect()
}

/// What device keys must have, whatever else stands in them.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be checked")]
struct DeviceKeys {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    algorithms: Vec<String>,
    keys: BTreeMap<String, String>,
    signatures: BTreeMap<OwnedUserId, BTreeMap<String, String>>,
}

/// A device's identity keys, if they are its own.
fn identity(device: DeviceRef<'_>, keys: Map<String, Value>) -> Result<Vec<u8>, ApiError> {
    let named = DeviceKeys::deserialize(&keys).map_err(|error| ApiError::bad_json(format!("device_keys: {error}")))?;
    if named.user_id != device.user_id || named.device_id != device.device_id {
        return Err(ApiError::invalid_param("the device keys are another device's"));
    }
    Ok(Value::Object(keys).to_string().into_bytes())
}

async fn upload(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Upload, _) = (call.json()?, call.context.requester()?);
    let (accounts, device) = (&call.context.api.accounts, requester.device());
    // All is read before anything is taken.
    let (one_time, fallback) = (keys(body.one_time_keys)?, keys(body.fallback_keys)?);
    let device_keys = body.device_keys.map(|keys| identity(device, keys)).transpose()?;
    accounts.upload_keys(device, KeyUpload { device_keys, one_time, fallback }).await?;
    let counts = accounts.key_counts(device).await?.one_time;
    Ok(json!({"one_time_key_counts": counts}).into())
}

#[derive(Deserialize)]
struct Query {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

/// What one user's keys are to the requester.
struct UserKeys {
    devices: Map<String, Value>,
    master: Option<Value>,
    self_signing: Option<Value>,
    user_signing: Option<Value>,
}

async fn query(call: Call) -> Result<Answer, ApiError> {
    let body: Query = call.json()?;
    if body.device_keys.len() > USERS {
        return Err(ApiError::invalid_param(format!("keys of more than {USERS} users at once")));
    }
    let server = &call.context.tenant.server_name;
    let here = body.device_keys.into_iter().filter(|(user_id, _)| user_id.server_name() == server);
    let call = &call;
    let asked = here.map(|(user_id, wanted)| async move {
        let keys = keys_of(call, &user_id, &wanted).await?;
        Ok::<_, ApiError>((user_id.to_string(), keys))
    });
    let mut answers = stream::iter(asked).buffered(AT_ONCE);
    let (mut devices, mut master, mut own, mut user) = (Map::new(), Map::new(), Map::new(), Map::new());
    while let Some((user_id, keys)) = answers.try_next().await? {
        for (out, key) in [(&mut master, keys.master), (&mut own, keys.self_signing), (&mut user, keys.user_signing)] {
            out.extend(key.map(|key| (user_id.clone(), key)));
        }
        devices.insert(user_id, Value::Object(keys.devices));
    }
    Ok(json!({
        "device_keys": devices, "failures": {}, "master_keys": master, "self_signing_keys": own, "user_signing_keys": user,
    })
    .into())
}

async fn keys_of(call: &Call, user_id: &UserId, wanted: &[OwnedDeviceId]) -> Result<UserKeys, ApiError> {
    let (accounts, requester) = (&call.context.api.accounts, call.context.requester()?);
    let names = accounts.devices(requester.tenant, user_id).await?;
    let mut devices = Map::new();
    for (device_id, mut key) in accounts.device_keys(requester.tenant, user_id).await? {
        if wanted.is_empty() || wanted.contains(&device_id) {
            // One that was logged out with all others is gone, though its keys are taken away later.
            let Some(device) = names.iter().find(|device| device.device_id == device_id) else { continue };
            if let Some(name) = device.display_name.as_deref() {
                key.insert("unsigned".to_owned(), json!({"device_display_name": name}));
            }
            devices.insert(device_id.to_string(), Value::Object(key));
        }
    }
    let cross = |usage| accounts.cross_signing(requester.tenant, user_id, usage, &requester.user_id);
    let is_own = user_id == requester.user_id;
    Ok(UserKeys {
        devices,
        master: cross("master").await?,
        self_signing: cross("self_signing").await?,
        user_signing: if is_own { cross("user_signing").await? } else { None },
    })
}

#[derive(Deserialize)]
struct Claim {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

async fn claim(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (Claim, _) = (call.json()?, call.context.requester()?);
    if body.one_time_keys.values().map(BTreeMap::len).sum::<usize>() > CLAIMS {
        return Err(ApiError::invalid_param(format!("keys of more than {CLAIMS} devices at once")));
    }
    let of_user = |(user_id, devices): (OwnedUserId, BTreeMap<OwnedDeviceId, String>)| {
        devices.into_iter().map(move |(device_id, algorithm)| Wanted { user_id: user_id.clone(), device_id, algorithm })
    };
    let wanted = body.one_time_keys.into_iter().flat_map(of_user).collect();
    let claimed = call.context.api.accounts.claim_one_time_keys(requester.tenant, wanted).await?;
    let mut out: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Map<String, Value>>> = BTreeMap::new();
    for Claimed { of: Wanted { user_id, device_id, algorithm }, key_id, key } in claimed {
        let key: Value = serde_json::from_slice(&key).unwrap_or_default();
        let named = Map::from_iter([(format!("{algorithm}:{key_id}"), key)]);
        out.entry(user_id).or_default().insert(device_id, named);
    }
    Ok(json!({"one_time_keys": out, "failures": {}}).into())
}
