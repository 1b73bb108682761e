//! Access tokens: they name user and device, so that one entry of the user's record decides. Only hashes are stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use polity_core::Random;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "plt";
/// Letters of randomness: 190 bits.
const SECRET: usize = 32;

/// The SHA-256 of a token.
pub(crate) type Hash = [u8; 32];

/// A new token for a device.
pub(crate) fn make(random: &dyn Random, localpart: &str, device_id: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{PREFIX}.{}.{}.{}", part(localpart), part(device_id), random.alphanumeric(SECRET))
}

/// Whose token it says it is: localpart and device.
pub(crate) fn parse(token: &str) -> Option<(String, String)> {
    let mut parts = token.split('.');
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (prefix, localpart, device, secret) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = prefix == PREFIX && secret.len() == SECRET && parts.next().is_none();
    Some((part(localpart)?, part(device)?)).filter(|_| whole)
}

pub(crate) fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

/// Compares without telling by its duration where the difference is.
pub(crate) fn same(a: &Hash, b: &Hash) -> bool {
    a.ct_eq(b).into()
}
