//! Objects that were signed by somebody whose public key is at hand: keys of devices, cross-signing keys.
//!
//! <https://spec.matrix.org/v1.19/appendices/#checking-for-a-signature>

use ruma_common::{
    CanonicalJsonObject, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
};
use ruma_signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes};
use serde_json::Value;

/// What a signature of an object is made over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBytes(String);

impl SignedBytes {
    /// Those of an object, whatever signatures it has; `None` if it is none of canonical JSON.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let object: CanonicalJsonObject = serde_json::from_value(object.clone()).ok()?;
        to_canonical_json_string_for_signing(&object).ok().map(Self)
    }

    /// Whether `signature` is one by the Ed25519 key `public`, both in base64.
    #[must_use]
    pub fn are_signed(&self, public: &str, signature: &str) -> bool {
        let decode = |text| Base64::<Standard>::parse(text).ok();
        let (Some(public), Some(signature)) = (decode(public), decode(signature)) else { return false };
        let (public, signature, bytes) = (public.as_bytes(), signature.as_bytes(), self.0.as_bytes());
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, public, signature, bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// From the specification's appendix, "JSON signing".
    const PUBLIC: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";
    const SIGNATURE: &str = "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ";

    #[test]
    fn the_vector_of_the_specification_holds_and_no_other_object_key_or_signature_does() {
        let bytes = SignedBytes::of(&json!({"signatures": {"domain": {}}, "unsigned": {"any": 1}})).unwrap();
        assert!(bytes.are_signed(PUBLIC, SIGNATURE));
        assert!(bytes.are_signed(&format!("{PUBLIC}="), &format!("{SIGNATURE}==")), "padding is passed over");
        assert!(!SignedBytes::of(&json!({"one": 1})).unwrap().are_signed(PUBLIC, SIGNATURE));
        assert!(!bytes.are_signed(PUBLIC, &SIGNATURE.replace('K', "L")));
        for (public, signature) in [("", SIGNATURE), (PUBLIC, ""), (PUBLIC, "?"), (SIGNATURE, SIGNATURE)] {
            assert!(!bytes.are_signed(public, signature), "{public} {signature}");
        }
        for none in [json!([]), json!({"one": 1.5})] {
            assert_eq!(SignedBytes::of(&none), None, "{none}");
        }
    }
}
