//! What clients hand back: sync tokens, pagination tokens, access tokens; and the snapshots that tokens name.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use polity_core::{
    TenantId,
    sync_token::{SyncToken, TokenKey, decode_snapshot, encode_snapshot},
};
use polity_sync::page_token::PageToken;

use super::text;

const SECRET: &[u8] = b"secret";
const OWNER: &str = "@a:b";
const TENANT: TenantId = TenantId::new(1);

/// Any text as any kind of token. Nobody guesses a seal.
pub(super) fn texts(bytes: &[u8]) {
    let text = text(bytes);
    polity_accounts::fuzzing::access_token(&text);
    assert!(SyncToken::decode(&text, &TokenKey::derive(SECRET, TENANT), OWNER).is_err(), "a seal was guessed");
    if let Ok(page) = text.parse::<PageToken>() {
        assert_eq!(page.to_string().parse(), Ok(page));
        let (before, next) = (page.last_before(), page.next_seq());
        assert!(before.is_none_or(|before| before.next() == next));
    }
}

/// What stands behind the seal, sealed: by a version that isn't known here, say.
pub(super) fn sealed(bytes: &[u8]) {
    let Some((version, body)) = bytes.split_first() else { return };
    let key = TokenKey::derive(SECRET, TENANT);
    let sealed = [&[*version][..], &mac(body), body].concat();
    let Ok(token) = SyncToken::decode(&URL_SAFE_NO_PAD.encode(sealed), &key, OWNER) else { return };
    let again = token.encode(&key, OWNER);
    assert_eq!(SyncToken::decode(&again, &key, OWNER), Ok(token));
}

/// The seal, as `TokenKey` makes it.
fn mac(body: &[u8]) -> [u8; 8] {
    let mut key = blake3::Hasher::new_derive_key("polity sync token v1");
    key.update(&TENANT.get().to_be_bytes()).update(SECRET);
    let mut seal = blake3::Hasher::new_keyed(key.finalize().as_bytes());
    seal.update(&(OWNER.len() as u64).to_be_bytes()).update(OWNER.as_bytes()).update(body);
    *seal.finalize().as_bytes().first_chunk().expect("a hash is longer")
}

/// A user's rooms, as they stand in the store.
pub(super) fn snapshots(bytes: &[u8]) {
    if let Ok(rooms) = decode_snapshot(bytes) {
        assert_eq!(decode_snapshot(&encode_snapshot(&rooms)), Ok(rooms));
    }
}
