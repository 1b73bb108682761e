//! From a draft to a signed event. Canonical JSON is written once per field; the three forms that the protocol needs (to hash, to
//! sign, to keep) are put together from those pieces. `ruma_signatures` is the oracle in the tests.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose};
use bytes::Bytes;
use polity_core::{Classified, ErrorKind};
use ruma_common::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId,
    canonical_json::redact_content_in_place,
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
};
use ruma_events::TimelineEventType;
use ruma_signatures::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::pdu::{Inner, Pdu, redacted_id};

/// The greatest size of an event in bytes, signatures included (client-server API, "Size limits").
pub const MAX_PDU_BYTES: usize = 65_536;
/// The greatest size in bytes of a sender, room id, state key, type and event id.
pub const MAX_KEY_BYTES: usize = 255;
/// The greatest integer of canonical JSON: depth stays there (2^53 - 1).
pub const MAX_DEPTH: u64 = (1 << 53) - 1;
/// What stands before a seed in an unencrypted PKCS#8 document of an Ed25519 key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why a draft can't become an event.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The event is over [`MAX_PDU_BYTES`] (`M_TOO_LARGE`).
    #[error("the event has {0} bytes, more than {MAX_PDU_BYTES}")]
    TooLarge(usize),
    /// A key of the event is over [`MAX_KEY_BYTES`] (`M_TOO_LARGE`).
    #[error("the event's {0} has more than {MAX_KEY_BYTES} bytes")]
    KeyTooLong(&'static str),
    /// The content is no object of canonical JSON (`M_BAD_JSON`).
    #[error("the content is not canonical JSON: {0}")]
    BadJson(#[source] serde_json::Error),
    /// The position doesn't name the room, and the event isn't one that founds it.
    #[error("the position names no room")]
    NoRoom,
    /// Versions whose event ids aren't hashes aren't built.
    #[error("events of this room version can't be built")]
    UnsupportedVersion,
    /// The hash gave no valid id: never in practice.
    #[error("the event's hash gives no valid id: {0}")]
    Id(#[from] ruma_common::IdParseError),
}

impl Classified for BuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge(_) | Self::KeyTooLong(_) => ErrorKind::TooLarge,
            Self::BadJson(_) => ErrorKind::Invalid,
            Self::UnsupportedVersion => ErrorKind::Unsupported,
            Self::NoRoom | Self::Id(_) => ErrorKind::Internal,
        }
    }
}

/// What somebody wants to send.
#[derive(Debug, Clone)]
pub struct EventDraft {
    /// The type.
    pub event_type: TimelineEventType,
    /// For a state event: its key.
    pub state_key: Option<String>,
    /// The content: any JSON object; it is made canonical here.
    pub content: Box<RawValue>,
    /// Who sends it.
    pub sender: OwnedUserId,
    /// For a redaction: its target. It is written where the room's version keeps it.
    pub redacts: Option<OwnedEventId>,
    /// When (Unix milliseconds).
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// Where in the room's graph the event goes.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// The forward extremities.
    pub prev_events: Vec<OwnedEventId>,
    /// The events of the state that allow it.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth before it; capped at [`MAX_DEPTH`].
    pub depth: u64,
    /// The room; none only for a create event whose hash becomes the room's id.
    pub room_id: Option<OwnedRoomId>,
}

/// A server's name and key. Cloning it counts a reference.
#[derive(Debug, Clone)]
pub struct SigningIdentity {
    server_name: OwnedServerName,
    key: Arc<Ed25519KeyPair>,
}

impl SigningIdentity {
    /// The identity of a server whose key is made from `seed` and is called `ed25519:{version}`.
    ///
    /// # Errors
    /// Never in practice: every seed is a key.
    pub fn from_seed(
        server_name: OwnedServerName,
        version: &str,
        seed: &[u8; 32],
    ) -> Result<Self, ruma_signatures::Ed25519KeyPairParseError> {
        let mut document = [0; 48];
        document[..16].copy_from_slice(&PKCS8_PREFIX);
        document[16..].copy_from_slice(seed);
        Ok(Self { server_name, key: Arc::new(Ed25519KeyPair::from_der(&document, version.to_owned())?) })
    }

    /// The server.
    #[must_use]
    pub fn server_name(&self) -> &OwnedServerName {
        &self.server_name
    }

    /// The key pair, for what else is signed with it.
    #[must_use]
    pub fn key_pair(&self) -> &Ed25519KeyPair {
        &self.key
    }
}

/// Hashes and signs a draft.
///
/// # Errors
/// When the draft breaks a limit of the protocol or isn't canonical JSON.
pub fn build(
    draft: EventDraft,
    position: Position,
    identity: &SigningIdentity,
    rules: &RoomVersionRules,
) -> Result<Pdu, BuildError> {
    if rules.event_format.require_event_id {
        return Err(BuildError::UnsupportedVersion);
    }
    check_keys(&draft, &position)?;
    let mut content: CanonicalJsonObject = serde_json::from_str(draft.content.get()).map_err(BuildError::BadJson)?;
    let is_redaction = draft.event_type == TimelineEventType::RoomRedaction;
    let in_content = rules.redaction.content_field_redacts;
    if let (true, true, Some(target)) = (is_redaction, in_content, &draft.redacts) {
        content.insert("redacts".into(), target.as_str().into());
    }
    let kept = canonical(&content)?;
    redact_content_in_place(&mut content, &rules.redaction, draft.event_type.to_string());
    let redacted = canonical(&content)?;

    let fields = Fields::new(&draft, &position, !in_content && is_redaction)?;
    let hash = Sha256::digest(fields.write(&kept, "", "", true));
    let hashes = format!("\"hashes\":{{\"sha256\":\"{}\"}},", general_purpose::STANDARD_NO_PAD.encode(hash));
    let signed = fields.write(&redacted, &hashes, "", false);
    let signature = identity.key.sign(&signed);
    let signatures = format!(
        "\"signatures\":{{{}:{{{}:\"{}\"}}}},",
        canonical(&identity.server_name)?,
        canonical(&signature.id())?,
        signature.base64()
    );
    let json = fields.write(&kept, &hashes, &signatures, true);
    if json.len() > MAX_PDU_BYTES {
        return Err(BuildError::TooLarge(json.len()));
    }
    // What is signed is what is hashed for the id: both leave out signatures and unsigned.
    let reference = Sha256::digest(&signed);
    let reference = match rules.event_id_format {
        EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => general_purpose::STANDARD_NO_PAD.encode(reference),
        _ => general_purpose::URL_SAFE_NO_PAD.encode(reference),
    };
    finish(draft, position, kept, &reference, json, rules)
}

fn finish(
    draft: EventDraft,
    position: Position,
    content: String,
    reference: &str,
    json: Vec<u8>,
    rules: &RoomVersionRules,
) -> Result<Pdu, BuildError> {
    let event_id = OwnedEventId::try_from(format!("${reference}"))?;
    let names_room = position.room_id.is_some();
    let room_id = match position.room_id {
        Some(room_id) => room_id,
        None if draft.event_type == TimelineEventType::RoomCreate
            && !rules.event_format.require_room_create_room_id =>
        {
            OwnedRoomId::try_from(format!("!{reference}"))?
        }
        None => return Err(BuildError::NoRoom),
    };
    let content = RawValue::from_string(content).map_err(BuildError::BadJson)?;
    let redacts = redacted_id(&draft.event_type, &content, draft.redacts, rules);
    Ok(Pdu::new(Inner {
        event_id,
        room_id,
        names_room,
        sender: draft.sender,
        event_type: draft.event_type,
        state_key: draft.state_key,
        content,
        origin_server_ts: draft.origin_server_ts,
        depth: position.depth.min(MAX_DEPTH),
        prev_events: position.prev_events,
        auth_events: position.auth_events,
        redacts,
        json: Bytes::from(json),
    }))
}

fn check_keys(draft: &EventDraft, position: &Position) -> Result<(), BuildError> {
    let event_type = draft.event_type.to_string();
    let keys = [
        ("sender", draft.sender.as_str()),
        ("type", event_type.as_str()),
        ("state_key", draft.state_key.as_deref().unwrap_or_default()),
        ("room_id", position.room_id.as_ref().map_or("", |id| id.as_str())),
        ("redacts", draft.redacts.as_ref().map_or("", |id| id.as_str())),
    ];
    match keys.into_iter().find(|(_, value)| value.len() > MAX_KEY_BYTES) {
        Some((name, _)) => Err(BuildError::KeyTooLong(name)),
        None => Ok(()),
    }
}

/// The event's fields as canonical JSON, in runs between those that differ from form to form.
struct Fields {
    auth_events: String,
    depth_and_time: (String, String),
    redacts: String,
    room_to_sender: String,
    state_key_and_type: String,
}

impl Fields {
    fn new(draft: &EventDraft, position: &Position, redacts_at_top: bool) -> Result<Self, BuildError> {
        let redacts = match &draft.redacts {
            Some(target) if redacts_at_top => format!("\"redacts\":{},", canonical(target)?),
            _ => String::new(),
        };
        let room_id = match &position.room_id {
            Some(room_id) => format!("\"room_id\":{},", canonical(room_id)?),
            None => String::new(),
        };
        let state_key = match &draft.state_key {
            Some(state_key) => format!("\"state_key\":{},", canonical(state_key)?),
            None => String::new(),
        };
        let time = u64::from(draft.origin_server_ts.0);
        Ok(Self {
            auth_events: format!("{{\"auth_events\":{},\"content\":", canonical(&position.auth_events)?),
            depth_and_time: (
                format!(",\"depth\":{},", position.depth.min(MAX_DEPTH)),
                format!("\"origin_server_ts\":{time},\"prev_events\":{},", canonical(&position.prev_events)?),
            ),
            redacts,
            room_to_sender: format!("{room_id}\"sender\":{},", canonical(&draft.sender)?),
            state_key_and_type: format!("{state_key}\"type\":{}}}", canonical(&draft.event_type.to_string())?),
        })
    }

    /// One form of the event; `full` keeps the `redacts` that redaction takes from the top.
    fn write(&self, content: &str, hashes: &str, signatures: &str, full: bool) -> Vec<u8> {
        let redacts = if full { self.redacts.as_str() } else { "" };
        let (depth, time) = &self.depth_and_time;
        [
            &self.auth_events,
            content,
            depth,
            hashes,
            time,
            redacts,
            &self.room_to_sender,
            signatures,
            &self.state_key_and_type,
        ]
        .concat()
        .into_bytes()
    }
}

fn canonical<T: Serialize + ?Sized>(value: &T) -> Result<String, BuildError> {
    serde_json::to_string(value).map_err(BuildError::BadJson)
}

#[cfg(test)]
mod tests;
