//! Canonical JSON, and signatures over it.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use polity_room_engine::{build::SigningIdentity, signed_json::SignedBytes};
use ruma_common::CanonicalJsonObject;
use ruma_signatures::{KeyPair as _, sign_json, verify_json};
use serde_json::Value;

use super::text;

pub(super) const SERVER: &str = "polity.test";

pub(super) fn identity() -> SigningIdentity {
    crate::parts::identity(SERVER)
}

/// Our public key.
pub(super) fn public_key() -> [u8; 32] {
    identity().key_pair().public_key()
}

/// An object: what is signed of it is what ruma signs, is canonical already, and our own signature of it holds.
pub(super) fn canonical(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Some(signed) = SignedBytes::of(&value) else { return };
    let mut object: CanonicalJsonObject = serde_json::from_value(value).expect("an object of canonical JSON");
    let once = serde_json::to_string(&object).expect("into memory");
    let again: CanonicalJsonObject = serde_json::from_str(&once).expect("canonical JSON is JSON");
    assert_eq!(serde_json::to_string(&again).expect("into memory"), once, "it isn't canonical");
    assert_eq!(SignedBytes::of(&serde_json::from_str(&once).expect("JSON")).as_ref(), Some(&signed));
    // What is there under the name of signatures may be anything.
    object.remove("signatures");
    let identity = identity();
    sign_json(SERVER, identity.key_pair(), &mut object).expect("an object is signed");
    let keys = [(
        SERVER.to_owned(),
        [("ed25519:1".to_owned(), ruma_common::serde::Base64::new(public_key().to_vec()))].into(),
    )];
    verify_json(&keys.into(), &object).expect("what was signed holds");
    let signature = object["signatures"].as_object().and_then(|all| all.get(SERVER)?.as_object()?.get("ed25519:1"));
    let signature = signature.and_then(|signature| signature.as_str()).expect("a signature");
    assert!(signed.are_signed(&STANDARD_NO_PAD.encode(public_key()), signature));
    assert!(!signed.are_signed(&STANDARD_NO_PAD.encode([3; 32]), signature));
}

/// A public key and a signature, a line each: nothing but our own signature holds.
pub(super) fn signatures(bytes: &[u8]) {
    let text = text(bytes);
    let (public, signature) = text.split_once('\n').unwrap_or((&text, ""));
    let signed = SignedBytes::of(&serde_json::json!({"one": 1})).expect("an object");
    let own = STANDARD_NO_PAD.encode(public_key());
    let holds = signed.are_signed(&own, signature);
    // The order of the points makes no other text a signature of ours, but base64 may be spelled in several ways.
    let ours = identity().key_pair().sign(br#"{"one":1}"#).base64();
    let same = |text: &str| text.trim_end_matches('=') == ours.trim_end_matches('=');
    assert!(!holds || same(signature), "{signature:?} isn't ours");
    let _ = signed.are_signed(public, signature);
}
