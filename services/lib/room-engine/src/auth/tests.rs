//! The rules of authorisation, as rooms meet them, in each version that rooms are made of.

use std::collections::BTreeMap;

use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, owned_server_name,
    room_version_rules::RoomVersionRules,
};
use ruma_events::StateEventType;
use serde_json::{Value, json, value::RawValue};

use super::{auth_types, authorise};
use crate::{
    build::{self, EventDraft, Position, SigningIdentity},
    pdu::Pdu,
};

const ALICE: &str = "@alice:d";
const BOB: &str = "@bob:d";
const CAROL: &str = "@carol:d";
const VERSIONS: [&str; 3] = ["10", "11", "12"];

/// A room as a map of its state.
struct Room {
    rules: RoomVersionRules,
    identity: SigningIdentity,
    state: BTreeMap<(String, String), Pdu>,
    last: Vec<OwnedEventId>,
    room_id: Option<OwnedRoomId>,
}

fn draft(sender: &str, event_type: &str, state_key: Option<&str>, content: &Value) -> EventDraft {
    EventDraft {
        event_type: event_type.into(),
        state_key: state_key.map(str::to_owned),
        content: RawValue::from_string(content.to_string()).unwrap(),
        sender: OwnedUserId::try_from(sender).unwrap(),
        redacts: None,
        origin_server_ts: MilliSecondsSinceUnixEpoch(1_000_000_u32.into()),
    }
}

impl Room {
    fn empty(version: &str) -> Self {
        let rules = RoomVersionId::try_from(version).unwrap().rules().unwrap();
        let identity = SigningIdentity::from_seed(owned_server_name!("d"), "1", &[7; 32]).unwrap();
        let own_id = rules.authorization.room_create_event_id_as_room_id;
        let room_id = (!own_id).then(|| OwnedRoomId::try_from("!r:d").unwrap());
        Self { rules, identity, state: BTreeMap::new(), last: Vec::new(), room_id }
    }

    /// A room that Alice has made and joined.
    fn new(version: &str, creation: &Value) -> Self {
        let mut room = Self::empty(version);
        let mut content = creation.clone();
        content["room_version"] = json!(version);
        if version == "10" {
            content["creator"] = json!(ALICE);
        }
        room.put(ALICE, "m.room.create", "", &content);
        room.member(ALICE, ALICE, "join").unwrap();
        room
    }

    /// Alice's room with levels, Bob in it with 50 and Carol with none.
    fn with_levels(version: &str) -> Self {
        let mut room = Self::new(version, &json!({}));
        let users = if version == "12" { json!({BOB: 50}) } else { json!({ALICE: 100, BOB: 50}) };
        room.put(ALICE, "m.room.power_levels", "", &json!({"users": users}));
        room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": "public"}));
        room.member(BOB, BOB, "join").unwrap();
        room.member(CAROL, CAROL, "join").unwrap();
        room
    }

    fn position(&self, draft: &EventDraft) -> Position {
        // One that cites nothing for it is malformed, and is to be refused for that.
        let types = auth_types(draft, &self.rules).unwrap_or_default();
        let cited = types.iter().filter_map(|(kind, key)| self.state.get(&(kind.to_string(), key.clone())));
        Position {
            prev_events: self.last.clone(),
            auth_events: cited.map(|event| event.event_id().clone()).collect(),
            depth: 1,
            room_id: self.room_id.clone(),
        }
    }

    fn check(&self, draft: EventDraft, position: Position) -> Result<Pdu, String> {
        let event = build::build(draft, position, &self.identity, &self.rules).map_err(|error| error.to_string())?;
        let by_id = |id: &EventId| self.state.values().find(|event| *event.event_id() == *id).cloned();
        let state = |kind: &StateEventType, key: &str| self.state.get(&(kind.to_string(), key.to_owned())).cloned();
        authorise(&self.rules, &event, by_id, state).map(|()| event).map_err(|why| why.to_string())
    }

    fn accept(&mut self, event: Pdu) {
        self.last = vec![event.event_id().clone()];
        self.room_id.get_or_insert_with(|| event.room_id().to_owned());
        if let Some(key) = event.state_key() {
            self.state.insert((event.event_type().to_string(), key.to_owned()), event);
        }
    }

    fn set(&mut self, sender: &str, event_type: &str, key: &str, content: &Value) -> Result<(), String> {
        let draft = draft(sender, event_type, Some(key), content);
        let position = self.position(&draft);
        self.check(draft, position).map(|event| self.accept(event))
    }

    fn put(&mut self, sender: &str, event_type: &str, key: &str, content: &Value) {
        self.set(sender, event_type, key, content).unwrap_or_else(|why| panic!("{event_type} of {sender}: {why}"));
    }

    fn member(&mut self, sender: &str, target: &str, membership: &str) -> Result<(), String> {
        self.set(sender, "m.room.member", target, &json!({"membership": membership}))
    }

    fn levels(&mut self, sender: &str, content: &Value) -> Result<(), String> {
        self.set(sender, "m.room.power_levels", "", content)
    }

    fn message(&self, sender: &str) -> Result<Pdu, String> {
        let draft = draft(sender, "m.room.message", None, &json!({"body": "x"}));
        let position = self.position(&draft);
        self.check(draft, position)
    }
}

#[test]
fn a_create_event_stands_at_the_beginning_and_names_its_room_only_before_version_12() {
    for version in VERSIONS {
        let room = Room::empty(version);
        let create = || draft(ALICE, "m.room.create", Some(""), &json!({"creator": ALICE, "room_version": version}));
        let named = |room_id: Option<&str>| Position {
            room_id: room_id.map(|id| OwnedRoomId::try_from(id).unwrap()),
            depth: 1,
            ..Position::default()
        };
        assert_eq!(room.check(create(), named(Some("!r:d"))).is_ok(), version != "12", "{version}");
        let here = || if version == "12" { named(None) } else { named(Some("!r:d")) };
        assert!(room.check(create(), here()).is_ok());
        let late = Position { prev_events: vec![OwnedEventId::try_from("$x").unwrap()], ..here() };
        assert!(room.check(create(), late).is_err(), "nothing comes before it");
    }
    let mut elsewhere = Room::empty("11");
    elsewhere.room_id = Some(OwnedRoomId::try_from("!r:elsewhere").unwrap());
    assert!(
        elsewhere.set(ALICE, "m.room.create", "", &json!({"room_version": "11"})).is_err(),
        "another server's room"
    );
}

#[test]
fn additional_creators_are_user_ids() {
    for (creators, good) in
        [(json!([BOB]), true), (json!([]), true), (json!(["bob"]), false), (json!(BOB), false), (json!([1]), false)]
    {
        let content = json!({"room_version": "12", "additional_creators": creators});
        let outcome = Room::empty("12").set(ALICE, "m.room.create", "", &content);
        assert_eq!(outcome.is_ok(), good, "{content}");
    }
}

#[test]
fn a_create_event_is_cited_before_version_12_and_never_since() {
    for version in VERSIONS {
        let room = Room::with_levels(version);
        let create = room.state[&("m.room.create".to_owned(), String::new())].event_id().clone();
        let event = room.message(ALICE).unwrap();
        assert_eq!(event.auth_events().contains(&create), version != "12", "{version}");
        let draft = draft(ALICE, "m.room.message", None, &json!({}));
        let mut position = room.position(&draft);
        if version == "12" {
            position.auth_events.push(create);
        } else {
            position.auth_events.retain(|id| *id != create);
        }
        assert!(room.check(draft, position).is_err(), "{version}");
    }
}

#[test]
fn cited_events_are_each_of_a_kind_and_of_the_right_ones() {
    for version in VERSIONS {
        let room = Room::with_levels(version);
        let message = || draft(BOB, "m.room.message", None, &json!({}));
        let mut twice = room.position(&message());
        twice.auth_events.push(twice.auth_events[0].clone());
        assert!(room.check(message(), twice).is_err(), "one twice");
        let mut others = room.position(&message());
        others.auth_events.push(room.state[&("m.room.member".to_owned(), CAROL.to_owned())].event_id().clone());
        assert!(room.check(message(), others).is_err(), "one that has nothing to do with it");
        let mut unknown = room.position(&message());
        unknown.auth_events.push(OwnedEventId::try_from("$unknown").unwrap());
        assert!(room.check(message(), unknown).is_err(), "one that isn't there");
    }
}

#[test]
fn creators_have_more_power_than_any_level_since_version_12() {
    let mut room = Room::new("12", &json!({"additional_creators": [BOB]}));
    room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": "public"}));
    room.member(BOB, BOB, "join").unwrap();
    room.member(CAROL, CAROL, "join").unwrap();
    let greatest = 9_007_199_254_740_991_i64;
    room.levels(ALICE, &json!({"users": {CAROL: greatest}, "state_default": greatest, "ban": greatest})).unwrap();
    room.put(BOB, "m.room.name", "", &json!({"name": "n"}));
    assert!(room.member(CAROL, BOB, "ban").is_err(), "a creator is out of reach");
    assert!(room.member(CAROL, ALICE, "leave").is_err());
    room.member(BOB, CAROL, "ban").unwrap();
    // Before version 12 a creator is who the levels say.
    let mut old = Room::with_levels("11");
    old.levels(ALICE, &json!({"users": {ALICE: 0, BOB: 100}})).unwrap();
    old.member(BOB, ALICE, "ban").unwrap();
}

#[test]
fn levels_don_t_name_creators_since_version_12() {
    for (version, named, good) in [("11", ALICE, true), ("12", ALICE, false), ("12", BOB, false), ("12", CAROL, true)] {
        let mut room = Room::new(version, &json!({"additional_creators": [BOB]}));
        assert_eq!(room.levels(ALICE, &json!({"users": {named: 100}})).is_ok(), good, "{version} {named}");
    }
}

#[test]
fn nobody_gives_more_than_they_have_or_takes_from_their_equals() {
    for version in VERSIONS {
        let mut room = Room::with_levels(version);
        let creator = if version == "12" { json!({}) } else { json!({ALICE: 100}) };
        let users = |more: &[(&str, i64)]| {
            let mut users = creator.clone();
            for (user, level) in more {
                users[*user] = json!(level);
            }
            users
        };
        let to = |users: Value| json!({"users": users, "events": {"m.room.power_levels": 50}});
        room.levels(ALICE, &to(users(&[(BOB, 50)]))).unwrap();
        for (refused, content) in [
            ("more than one's own", to(users(&[(BOB, 50), (CAROL, 51)]))),
            ("more for oneself", to(users(&[(BOB, 51)]))),
            ("a bar above one's own level", json!({"users": users(&[(BOB, 50)]), "ban": 51})),
            ("users that are none", to(json!({"bob": 1}))),
        ] {
            assert!(room.levels(BOB, &content).is_err(), "{version}: {refused}");
        }
        room.levels(BOB, &to(users(&[(BOB, 50), (CAROL, 50)]))).unwrap();
        assert!(room.levels(BOB, &to(users(&[(BOB, 50), (CAROL, 0)]))).is_err(), "{version}: from an equal");
        room.levels(BOB, &to(users(&[(BOB, 10), (CAROL, 50)]))).unwrap();
        assert!(room.levels(BOB, &to(users(&[(BOB, 50), (CAROL, 50)]))).is_err(), "{version}: given away");
        assert!(
            room.levels(CAROL, &json!({"users": users(&[]), "ban": "50"})).is_err(),
            "{version}: a level in quotes"
        );
    }
}

#[test]
fn one_joins_by_oneself_and_by_the_rooms_rule() {
    for version in VERSIONS {
        let mut room = Room::new(version, &json!({}));
        assert!(room.member(BOB, BOB, "join").is_err(), "{version}: nobody, without a rule");
        room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": "invite"}));
        assert!(room.member(BOB, BOB, "join").is_err(), "{version}: by invitation only");
        assert!(room.member(ALICE, BOB, "join").is_err(), "{version}: not for others");
        room.member(ALICE, BOB, "invite").unwrap();
        room.member(BOB, BOB, "join").unwrap();
        assert!(room.member(ALICE, BOB, "invite").is_err(), "{version}: in already");
        room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": "public"}));
        room.member(CAROL, CAROL, "join").unwrap();
        room.member(ALICE, CAROL, "ban").unwrap();
        assert!(room.member(CAROL, CAROL, "join").is_err(), "{version}: banned");
        assert!(room.member(ALICE, CAROL, "invite").is_err(), "{version}: banned");
        assert!(room.member(CAROL, CAROL, "leave").is_err(), "{version}: one can't lift one's own ban");
        room.member(ALICE, CAROL, "leave").unwrap();
        room.member(CAROL, CAROL, "join").unwrap();
    }
}

#[test]
fn a_restricted_join_is_vouched_for_by_a_member_who_may_invite() {
    for version in VERSIONS {
        for rule in ["restricted", "knock_restricted"] {
            let mut room = Room::with_levels(version);
            room.member(CAROL, CAROL, "leave").unwrap();
            let users = if version == "12" { json!({}) } else { json!({ALICE: 100}) };
            room.levels(ALICE, &json!({"users": users, "invite": 50})).unwrap();
            room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": rule, "allow": []}));
            let mut join = |by: &str| {
                let content = json!({"membership": "join", "join_authorised_via_users_server": by});
                room.set(CAROL, "m.room.member", CAROL, &content)
            };
            assert!(join(BOB).is_err(), "{version} {rule}: no power to invite");
            assert!(join("@nobody:d").is_err(), "{version} {rule}: not in the room");
            join(ALICE).unwrap();
            room.member(CAROL, CAROL, "leave").unwrap();
            assert!(room.member(CAROL, CAROL, "join").is_err(), "{version} {rule}: nobody vouches");
        }
    }
}

#[test]
fn one_knocks_where_the_rule_says_so() {
    for version in VERSIONS {
        let mut room = Room::with_levels(version);
        for (rule, good) in [("public", false), ("invite", false), ("knock", true), ("knock_restricted", true)] {
            room.put(ALICE, "m.room.join_rules", "", &json!({"join_rule": rule}));
            assert_eq!(room.member("@dave:d", "@dave:d", "knock").is_ok(), good, "{version} {rule}");
        }
        assert!(room.member(BOB, "@eve:d", "knock").is_err(), "{version}: not for others");
        assert!(room.member(BOB, BOB, "knock").is_err(), "{version}: in already");
        room.member(ALICE, "@dave:d", "invite").unwrap();
        assert!(room.member("@dave:d", "@dave:d", "knock").is_err(), "{version}: invited already");
    }
}

#[test]
fn one_puts_out_only_who_has_less_power() {
    for version in VERSIONS {
        let mut room = Room::with_levels(version);
        assert!(room.member(CAROL, BOB, "leave").is_err(), "{version}");
        assert!(room.member(BOB, ALICE, "ban").is_err(), "{version}: more power");
        let users = if version == "12" { json!({BOB: 50, CAROL: 50}) } else { json!({ALICE: 100, BOB: 50, CAROL: 50}) };
        room.levels(ALICE, &json!({"users": users})).unwrap();
        assert!(room.member(BOB, CAROL, "leave").is_err(), "{version}: as much power");
        assert!(room.member(BOB, CAROL, "ban").is_err(), "{version}: as much power");
        room.member(ALICE, CAROL, "ban").unwrap();
        assert!(room.member("@dave:d", CAROL, "leave").is_err(), "{version}: a stranger");
    }
}

#[test]
fn what_is_sent_needs_membership_and_its_level() {
    for version in VERSIONS {
        let mut room = Room::with_levels(version);
        room.message(CAROL).unwrap();
        room.message("@dave:d").unwrap_err();
        room.set(CAROL, "m.room.name", "", &json!({"name": "n"})).unwrap_err();
        room.put(BOB, "m.room.name", "", &json!({"name": "n"}));
        room.set(BOB, "m.x", CAROL, &json!({})).unwrap_err();
        room.put(BOB, "m.x", BOB, &json!({}));
        room.member(ALICE, CAROL, "leave").unwrap();
        room.message(CAROL).unwrap_err();
        room.set(BOB, "m.room.member", BOB, &json!({"membership": "odd"})).unwrap_err();
        room.set(BOB, "m.room.member", BOB, &json!({})).unwrap_err();
    }
}
