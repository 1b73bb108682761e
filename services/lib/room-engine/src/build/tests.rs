//! What is built is what ruma builds, for every event and version.

use proptest::prelude::*;
use ruma_common::{
    CanonicalJsonObject, OwnedEventId, RoomVersionId, owned_event_id, owned_room_id, owned_server_name, owned_user_id,
};
use ruma_signatures::{hash_and_sign_event, reference_hash};
use serde_json::{Value, json};

use super::*;

fn rules(version: &str) -> RoomVersionRules {
    RoomVersionId::try_from(version).unwrap().rules().unwrap()
}

/// The key of the specification's test vectors.
fn identity() -> SigningIdentity {
    // The published seed leaves bits over in its last character.
    let lax =
        general_purpose::GeneralPurposeConfig::new().with_encode_padding(false).with_decode_allow_trailing_bits(true);
    let engine = general_purpose::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        lax.with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
    );
    let seed = engine.decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    SigningIdentity::from_seed(owned_server_name!("domain"), "1", &seed.try_into().unwrap()).unwrap()
}

fn draft(event_type: &str, content: &Value) -> EventDraft {
    EventDraft {
        event_type: event_type.into(),
        state_key: None,
        content: RawValue::from_string(content.to_string()).unwrap(),
        sender: owned_user_id!("@alice:domain"),
        redacts: None,
        origin_server_ts: MilliSecondsSinceUnixEpoch(1_000_000u32.into()),
    }
}

fn position() -> Position {
    Position {
        prev_events: vec![owned_event_id!("$prev")],
        auth_events: vec![owned_event_id!("$one"), owned_event_id!("$two")],
        depth: 12,
        room_id: Some(owned_room_id!("!room:domain")),
    }
}

/// What ruma makes of the same event: its canonical JSON and its id.
fn oracle(pdu: &Pdu, rules: &RoomVersionRules) -> (String, OwnedEventId) {
    let mut object: CanonicalJsonObject = serde_json::from_slice(pdu.json()).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    hash_and_sign_event("domain", identity().key_pair(), &mut object, &rules.redaction).unwrap();
    let id = format!("${}", reference_hash(&object, rules).unwrap());
    (serde_json::to_string(&object).unwrap(), id.try_into().unwrap())
}

fn assert_like_ruma(pdu: &Pdu, rules: &RoomVersionRules) {
    let (json, id) = oracle(pdu, rules);
    assert_eq!(std::str::from_utf8(pdu.json()).unwrap(), json);
    assert_eq!(*pdu.event_id(), id);
    let again = Pdu::from_stored(id, pdu.room_id().to_owned(), pdu.json().clone(), rules).unwrap();
    assert_eq!(again.content().get(), pdu.content().get());
    assert_eq!(again.redacts(), pdu.redacts());
    assert_eq!(again.state_key(), pdu.state_key());
    assert_eq!(again.depth(), pdu.depth());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn every_event_is_what_ruma_builds(
        kind in prop::sample::select(vec![
            "m.room.message", "m.room.member", "m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.redaction", "odd \"type\"",
        ]),
        version in prop::sample::select(vec!["3", "6", "9", "10", "11", "12"]),
        state_key in proptest::option::of(".{0,40}"),
        values in proptest::collection::btree_map(
            prop::sample::select(vec!["body", "membership", "creator", "users", "ban", "invite", "join_rule", "allow", "ünï"]), value(), 0..6),
    ) {
        let rules = rules(version);
        let mut draft = draft(kind, &json!(values));
        draft.state_key = state_key;
        draft.redacts = (kind == "m.room.redaction").then(|| owned_event_id!("$target"));
        let pdu = build(draft, position(), &identity(), &rules).unwrap();
        assert_like_ruma(&pdu, &rules);
        prop_assert_eq!(pdu.redacts().is_some(), kind == "m.room.redaction");
    }
}

#[test]
fn a_create_event_of_version_12_names_its_room_by_its_hash() {
    let rules = rules("12");
    let mut create = draft("m.room.create", &json!({"room_version": "12"}));
    create.state_key = Some(String::new());
    let pdu = build(create.clone(), Position::default(), &identity(), &rules).unwrap();
    assert_eq!(&pdu.room_id().as_str()[1..], &pdu.event_id().as_str()[1..]);
    assert!(!std::str::from_utf8(pdu.json()).unwrap().contains("room_id"));
    assert_like_ruma(&pdu, &rules);
    assert!(matches!(build(create, Position::default(), &identity(), &self::rules("11")), Err(BuildError::NoRoom)));
}

#[test]
fn limits_are_typed_errors() {
    let rules = rules("12");
    let built = |draft: EventDraft| build(draft, position(), &identity(), &rules).map_err(|error| error.kind());
    assert_eq!(built(draft("m.x", &json!({"a": 1.5}))).unwrap_err(), ErrorKind::Invalid);
    assert_eq!(built(draft("m.x", &json!({"a": 9_007_199_254_740_992u64}))).unwrap_err(), ErrorKind::Invalid);
    assert_eq!(built(draft("m.x", &json!([]))).unwrap_err(), ErrorKind::Invalid);
    assert_eq!(built(draft(&"t".repeat(256), &json!({}))).unwrap_err(), ErrorKind::TooLarge);
    assert!(built(draft(&"t".repeat(255), &json!({}))).is_ok());
    assert_eq!(built(draft("m.x", &json!({"a": "x".repeat(65_536)}))).unwrap_err(), ErrorKind::TooLarge);
    let empty = built(draft("m.x", &json!({"a": ""}))).unwrap().json().len();
    let full = "x".repeat(MAX_PDU_BYTES - empty);
    assert_eq!(built(draft("m.x", &json!({"a": full}))).unwrap().json().len(), MAX_PDU_BYTES);
    assert_eq!(built(draft("m.x", &json!({"a": full + "x"}))).unwrap_err(), ErrorKind::TooLarge);
}

#[test]
fn depth_stays_an_integer_of_canonical_json() {
    let position = Position { depth: u64::MAX, ..position() };
    let pdu = build(draft("m.x", &json!({})), position, &identity(), &rules("12")).unwrap();
    assert_eq!(pdu.depth(), MAX_DEPTH);
    assert_like_ruma(&pdu, &rules("12"));
}

/// "Canonical JSON" of the appendices: the published examples.
#[test]
fn the_published_examples_of_canonical_json() {
    for (given, wanted) in [
        ("{}", "{}"),
        (r#"{"one": 1, "two": "Two"}"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{"b": "2", "a": "1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
                "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
                {"medium": "msisdn", "address": "123456789"}]}}}"#,
            "{\"auth\":{\"mxid\":\"@john.doe:example.com\",\"profile\":{\"display_name\":\"John Doe\",\"three_pids\":\
             [{\"address\":\"john.doe@example.org\",\"medium\":\"email\"},\
             {\"address\":\"123456789\",\"medium\":\"msisdn\"}]},\"success\":true}}",
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
    ] {
        let mut draft = draft("m.x", &json!({}));
        draft.content = RawValue::from_string(given.to_owned()).unwrap();
        let pdu = build(draft, position(), &identity(), &rules("12")).unwrap();
        assert_eq!(pdu.content().get(), wanted);
    }
}

/// "JSON Signing" of the appendices: the published key signs the published objects.
#[test]
fn the_published_vectors_of_signing_json() {
    for (given, wanted) in [
        (
            "{}",
            "{\"signatures\":{\"domain\":{\"ed25519:1\":\
             \"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ\"}}}",
        ),
        (
            r#"{"one":1,"two":"Two"}"#,
            "{\"one\":1,\"signatures\":{\"domain\":{\"ed25519:1\":\
             \"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw\"}},\"two\":\"Two\"}",
        ),
    ] {
        let mut object: CanonicalJsonObject = serde_json::from_str(given).unwrap();
        ruma_signatures::sign_json("domain", identity().key_pair(), &mut object).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), wanted);
    }
}

/// "Event Signing" of the appendices: hash and signature of the published events. They have an `origin`, which no event has now, so
/// the oracle signs them with our key; that we build what the oracle does is the property above.
#[test]
fn the_published_vectors_of_signing_events() {
    let minimal = json!({
        "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1_000_000, "type": "X",
        "content": {}, "prev_events": [], "auth_events": [], "depth": 3, "unsigned": {"age_ts": 1_000_000},
    });
    let message = json!({
        "content": {"body": "Here is the message content"}, "event_id": "$0:domain", "origin": "domain",
        "origin_server_ts": 1_000_000, "type": "m.room.message", "room_id": "!r:domain", "sender": "@u:domain",
        "unsigned": {"age_ts": 1_000_000},
    });
    for (event, hash, signature) in [
        (
            minimal,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            message,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ] {
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        hash_and_sign_event("domain", identity().key_pair(), &mut object, &rules("1").redaction).unwrap();
        let signed = serde_json::to_value(&object).unwrap();
        assert_eq!(signed["hashes"]["sha256"], hash);
        assert_eq!(signed["signatures"]["domain"]["ed25519:1"], signature);
    }
}

/// Timing, by hand: `cargo test --release -p polity-room-engine -- --ignored --nocapture a_build`.
#[test]
#[ignore = "a measurement"]
fn a_build_takes_tens_of_microseconds() {
    let (identity, rules) = (identity(), rules("12"));
    let draft = draft("m.room.message", &json!({"msgtype": "m.text", "body": "hello there, how are you?"}));
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(build(draft.clone(), position(), &identity, &rules).unwrap());
    }
    println!("{:?} per event", start.elapsed() / 10_000);
}
