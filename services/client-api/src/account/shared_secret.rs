//! `/_synapse/admin/v1/register`: whoever has the shared secret makes accounts, as other servers' tools expect.

use std::time::Duration;

use axum::routing::MethodFilter;
use hmac::{Hmac, KeyInit, Mac};
use polity_accounts::{NewAccount, NewDevice};
use polity_core::{ErrorKind, TenantId};
use serde::Deserialize;
use serde_json::json;
use sha1::Sha1;

use super::register::new_user_id;
use crate::{
    Api, ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
    session,
};

const PATH: &str = "/_synapse/admin/v1/register";
/// A nonce is good for so long.
const NONCE: Duration = Duration::from_secs(60);

/// Adds the two methods.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::None, PATH, nonce).json(MethodFilter::POST, Token::None, PATH, register)
}

fn secret(api: &Api) -> Result<&str, ApiError> {
    api.shared_secret.as_deref().ok_or_else(ApiError::unrecognized)
}

/// A nonce carries its time and a proof that it is ours, so that none need be remembered before it is used. It is good for one tenant:
/// what is proven with it, and was overheard, makes no account of another one.
fn sign(secret: &str, tenant: TenantId, at_ms: u64, random: &str) -> Result<String, ApiError> {
    let made = format!("{}.{at_ms}", tenant.get());
    let mac = mac(secret, &[b"nonce", made.as_bytes(), random.as_bytes()])?;
    Ok(format!("{at_ms}.{random}.{}", hex::encode(mac.finalize().into_bytes())))
}

fn mac(secret: &str, parts: &[&[u8]]) -> Result<Hmac<Sha1>, ApiError> {
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(secret.as_bytes())
        .map_err(|error| ApiError::of_kind(ErrorKind::Internal, error.to_string()))?;
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            mac.update(&[0]);
        }
        mac.update(part);
    }
    Ok(mac)
}

async fn nonce(call: Call) -> Result<Answer, ApiError> {
    let api = &call.context.api;
    let nonce = sign(secret(api)?, call.context.tenant.id, api.clock.now_ms(), &api.random.alphanumeric(16))?;
    Ok(json!({"nonce": nonce}).into())
}

#[derive(Deserialize)]
struct Register {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    mac: String,
    displayname: Option<String>,
}

async fn register(call: Call) -> Result<Answer, ApiError> {
    let body: Register = call.json()?;
    let (api, tenant) = (&call.context.api, &call.context.tenant);
    let secret = secret(api)?;
    let made_ms = check_nonce(secret, tenant.id, api.clock.now_ms(), &body.nonce)?;
    let admin: &[u8] = if body.admin { b"admin" } else { b"notadmin" };
    let expected = mac(secret, &[body.nonce.as_bytes(), body.username.as_bytes(), body.password.as_bytes(), admin])?;
    let given = hex::decode(&body.mac).map_err(|_| ApiError::forbidden("the HMAC is wrong"))?;
    // Compared in constant time.
    expected.verify_slice(&given).map_err(|_| ApiError::forbidden("the HMAC is wrong"))?;
    let user_id = new_user_id(tenant, &body.username.to_lowercase())?;
    // Only whoever has the secret comes so far, so that nobody else fills the store.
    if !polity_store::once::use_once(&*api.store, tenant.id, "registration", &body.nonce, made_ms).await? {
        return Err(unknown_nonce());
    }
    let new = NewAccount {
        password: Some(body.password),
        admin: body.admin,
        displayname: body.displayname,
        device: Some(NewDevice::default()),
    };
    let logged_in = api.accounts.register(tenant.id, &user_id, new).await?;
    let logged_in = logged_in.ok_or_else(|| ApiError::of_kind(ErrorKind::Internal, "a login without a device"))?;
    Ok(session::answer(&user_id, &logged_in).into())
}

fn unknown_nonce() -> ApiError {
    ApiError::new(http::StatusCode::BAD_REQUEST, "M_UNKNOWN", "unrecognised nonce")
}

/// When a nonce was made, if it is ours and fresh.
fn check_nonce(secret: &str, tenant: TenantId, now_ms: u64, nonce: &str) -> Result<u64, ApiError> {
    let mut parts = nonce.split('.');
    let (at, random) = (parts.next().ok_or_else(unknown_nonce)?, parts.next().ok_or_else(unknown_nonce)?);
    let at_ms: u64 = at.parse().map_err(|_| unknown_nonce())?;
    let fresh = now_ms.saturating_sub(at_ms) <= u64::try_from(NONCE.as_millis()).unwrap_or(u64::MAX);
    let ours = subtle::ConstantTimeEq::ct_eq(sign(secret, tenant, at_ms, random)?.as_bytes(), nonce.as_bytes());
    if fresh && bool::from(ours) { Ok(at_ms) } else { Err(unknown_nonce()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_tenant_and_for_a_minute() {
        let (one, other) = (TenantId::new(1), TenantId::new(2));
        let nonce = sign("secret", one, 5_000, "random").unwrap();
        let good = |secret: &str, tenant, now_ms, nonce: &str| check_nonce(secret, tenant, now_ms, nonce).is_ok();
        assert!(good("secret", one, 5_000, &nonce) && good("secret", one, 65_000, &nonce));
        assert!(!good("secret", one, 65_001, &nonce));
        assert!(!good("secret", other, 5_000, &nonce), "what was overheard of one tenant");
        assert!(!good("another", one, 5_000, &nonce));
        for changed in
            [nonce.replace("5000", "5001"), nonce.replace("random", "other"), format!("{nonce}0"), String::new()]
        {
            assert!(!good("secret", one, 5_000, &changed), "{changed}");
        }
    }
}
