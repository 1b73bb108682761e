//! Access and refresh tokens: they name user and device, so that one entry of the user's record decides. Only hashes are stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use polity_core::Random;
use ruma_common::{OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "plt";
/// Letters of randomness: 190 bits.
const SECRET: usize = 32;

/// The SHA-256 of a token.
pub(crate) type Hash = [u8; 32];

/// The tokens of one login or refresh, as they are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: Hash,
    pub(crate) refresh: Option<Hash>,
    /// When the access token ends, in Unix milliseconds; none: never.
    pub(crate) expires_ms: Option<u64>,
}

impl Tokens {
    pub(crate) fn has_access(&self, hash: &Hash) -> bool {
        same(&self.access, hash)
    }

    pub(crate) fn has_refresh(&self, hash: &Hash) -> bool {
        self.refresh.as_ref().is_some_and(|refresh| same(refresh, hash))
    }
}

/// A new token for a device.
pub(crate) fn make(random: &dyn Random, localpart: &str, device_id: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{PREFIX}.{}.{}.{}", part(localpart), part(device_id), random.alphanumeric(SECRET))
}

/// Whose token it says it is.
pub(crate) fn parse(server: &ServerName, token: &str) -> Option<(OwnedUserId, OwnedDeviceId)> {
    let mut parts = token.split('.');
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (prefix, localpart, device, secret) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = prefix == PREFIX && secret.len() == SECRET && parts.next().is_none();
    let user_id = UserId::parse(format!("@{}:{server}", part(localpart)?)).ok()?;
    Some((user_id, OwnedDeviceId::from(part(device)?))).filter(|_| whole)
}

pub(crate) fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

/// Compares without telling by its duration where the difference is.
fn same(a: &Hash, b: &Hash) -> bool {
    a.ct_eq(b).into()
}
