//! Events: those that are built of what clients send, and those that are read.

use std::collections::HashMap;

use bytes::Bytes;
use polity_room_engine::{
    auth,
    build::{EventDraft, MAX_KEY_BYTES, MAX_PDU_BYTES, Position, build},
    pdu::Pdu,
    power, redact,
};
use ruma_common::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId, RoomVersionId, event_id,
    room_id, room_version_rules::RoomVersionRules, serde::Base64, user_id,
};
use ruma_events::StateEventType;
use ruma_signatures::{PublicKeyMap, Verified, reference_hash, verify_event};
use serde_json::{Value, value::RawValue};

use super::json::{SERVER, identity, public_key};

const VERSIONS: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

fn room() -> &'static RoomId {
    room_id!("!room:polity.test")
}

/// The rules of the version that the first byte says, and what follows.
fn versioned(bytes: &[u8]) -> Option<(RoomVersionRules, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    Some((VERSIONS[usize::from(*version) % VERSIONS.len()].rules()?, rest))
}

/// An event is built: within the limits, signed so that ruma believes it, under the id that ruma gives it, and read as it is.
pub(super) fn build_events(bytes: &[u8]) {
    let Some((rules, json)) = versioned(bytes) else { return };
    let Ok(mut said) = serde_json::from_slice::<Value>(json) else { return };
    // Only a server may say that it vouches for somebody.
    if let Some(content) = said.get_mut("content").and_then(Value::as_object_mut) {
        content.remove("join_authorised_via_users_server");
    }
    let text = |field: &str| said[field].as_str().map(str::to_owned);
    let event_type = text("type").unwrap_or_default();
    // What a redaction names stands in its content or at its top.
    let redacts = text("redacts").filter(|_| event_type == "m.room.redaction");
    let sender = text("sender").and_then(|sender| OwnedUserId::try_from(sender).ok());
    let draft = EventDraft {
        event_type: event_type.into(),
        state_key: text("state_key"),
        content: RawValue::from_string(said["content"].to_string()).expect("JSON"),
        sender: sender.unwrap_or_else(|| user_id!("@a:polity.test").to_owned()),
        redacts: redacts.and_then(|id| OwnedEventId::try_from(id).ok()),
        origin_server_ts: MilliSecondsSinceUnixEpoch(1_000_000_u32.into()),
    };
    let position = Position {
        prev_events: vec![event_id!("$prev").to_owned()],
        auth_events: Vec::new(),
        depth: said["depth"].as_u64().unwrap_or_default(),
        room_id: Some(room().to_owned()),
    };
    // What is cited depends on it: without a membership it goes no further.
    if auth::auth_types(&draft, &rules).is_err() {
        return;
    }
    let Ok(pdu) = build(draft, position, &identity(), &rules) else { return };
    assert!(pdu.json().len() <= MAX_PDU_BYTES);
    assert!(pdu.state_key().is_none_or(|key| key.len() <= MAX_KEY_BYTES));
    let object: CanonicalJsonObject = serde_json::from_slice(pdu.json()).expect("canonical JSON");
    assert_eq!(serde_json::to_vec(&object).expect("into memory"), *pdu.json(), "it isn't canonical");
    if pdu.sender().server_name() == SERVER {
        let key = [("ed25519:1".to_owned(), Base64::new(public_key().to_vec()))];
        let keys: PublicKeyMap = [(SERVER.to_owned(), key.into())].into();
        // A third party's invitation needs no signature of its sender's server, and may be one by what a client says.
        let verified = verify_event(&keys, &object, &rules);
        assert!(matches!(verified, Ok(Verified::All)), "{verified:?}");
    }
    let id = reference_hash(&object, &rules).expect("a hash");
    assert_eq!(pdu.event_id().as_str(), format!("${id}"));
    let again =
        Pdu::from_stored(pdu.event_id().clone(), room().to_owned(), pdu.json().clone(), &rules).expect("an event");
    assert_eq!((again.content().get(), again.redacts()), (pdu.content().get(), pdu.redacts()));
    redacted(&pdu, &rules);
}

/// What redaction leaves stays as it is when it is redacted again, and has the same id.
fn redacted(pdu: &Pdu, rules: &RoomVersionRules) {
    let Ok(once) = redact::redact(pdu, rules) else { return };
    let twice = redact::redact(&once, rules).expect("what was read is read");
    assert_eq!(once.json(), twice.json());
    assert_eq!((once.sender(), once.event_type(), once.state_key()), (pdu.sender(), pdu.event_type(), pdu.state_key()));
}

/// An event as it stands in the log, or comes from another server.
pub(super) fn stored_events(bytes: &[u8]) {
    let Some((rules, json)) = versioned(bytes) else { return };
    let Some(pdu) = stored(json, "$stored", &rules) else { return };
    let _ = (pdu.membership(), pdu.redacts());
    redacted(&pdu, &rules);
}

fn stored(json: &[u8], id: &str, rules: &RoomVersionRules) -> Option<Pdu> {
    let id = OwnedEventId::try_from(id).ok()?;
    Pdu::from_stored(id, room().to_owned(), Bytes::copy_from_slice(json), rules).ok()
}

/// Events, a line each: the last one is judged by the others, which are the state and what it may cite (`$0`, `$1`, ...).
pub(super) fn authorisation(bytes: &[u8]) {
    let Some((rules, lines)) = versioned(bytes) else { return };
    let lines = lines.split(|byte| *byte == b'\n').take(12).enumerate();
    let mut events: Vec<Pdu> = lines.filter_map(|(at, json)| stored(json, &format!("${at}"), &rules)).collect();
    let Some(judged) = events.pop() else { return };
    let by_id: HashMap<_, _> = events.iter().map(|event| (event.event_id().clone(), event.clone())).collect();
    let state = |event_type: &StateEventType, key: &str| {
        let is = |event: &&Pdu| *event.event_type() == event_type.to_string().into() && event.state_key() == Some(key);
        events.iter().rev().find(is).cloned()
    };
    let allowed = auth::authorise(&rules, &judged, |id| by_id.get(id).cloned(), state);
    // The same a second time: it depends on nothing else.
    assert_eq!(allowed, auth::authorise(&rules, &judged, |id| by_id.get(id).cloned(), state));
    let (create, levels) = (StateEventType::RoomCreate, StateEventType::RoomPowerLevels);
    if let Some(create) = state(&create, "")
        && let Ok(levels) = power::power_levels(&create, state(&levels, "").as_ref(), &rules)
    {
        let _ = levels.user_can_redact_event_of_other(judged.sender());
        let _ = redact::may_redact(&judged, &create, &levels);
    }
}
