//! What a room begins with.

use polity_core::ErrorKind;
use polity_proto::room_state::InitialState;
use serde_json::{Value, json};

use super::*;

impl World {
    async fn found(&mut self, request: CreateRoomRequest) -> Result<String, Detail> {
        let request = CreateRoomRequest { requester: who(ALICE), ..request };
        Ok(self.client.create_room(request).await.map_err(|status| Detail::from(&status))?.into_inner().room_id)
    }

    /// Every event of a room: type, state key, content.
    async fn events(&self, room: &str) -> Vec<(String, Value)> {
        let pdu = |row: &RoomRow| serde_json::from_slice::<Value>(&row.pdu).unwrap();
        self.rows(room)
            .await
            .iter()
            .filter(|row| !row.pdu.is_empty())
            .map(pdu)
            .map(|pdu| (format!("{}/{}", pdu["type"].as_str().unwrap(), pdu["state_key"].as_str().unwrap()), pdu))
            .collect()
    }
}

fn wanted(version: &str) -> CreateRoomRequest {
    CreateRoomRequest { room_version: version.into(), preset: Preset::PrivateChat.into(), ..Default::default() }
}

#[tokio::test]
async fn everything_asked_for_stands_in_the_specifications_order() {
    let mut world = world().await;
    let encryption = InitialState {
        event_type: "m.room.encryption".into(),
        state_key: String::new(),
        content: "{\"algorithm\":\"m.megolm.v1.aes-sha2\"}".into(),
    };
    let rule = InitialState {
        event_type: "m.room.join_rules".into(),
        state_key: String::new(),
        content: "{\"join_rule\":\"knock\"}".into(),
    };
    let request = CreateRoomRequest {
        creation_content: "{\"type\":\"m.space\",\"creator\":\"@liar:t7.test\",\"room_version\":\"1\"}".into(),
        power_level_content_override: "{\"events_default\":10}".into(),
        initial_state: vec![encryption, rule],
        name: Some("Name".into()),
        topic: Some("Topic".into()),
        alias: Some("#a:t7.test".into()),
        invite: vec![BOB.into(), ALICE.into(), BOB.into()],
        is_direct: true,
        listed: true,
        ..wanted("12")
    };
    let room = world.found(request).await.unwrap();
    let events = world.events(&room).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| &**name).collect();
    let bob = format!("m.room.member/{BOB}");
    assert_eq!(
        names,
        [
            "m.room.create/",
            &format!("m.room.member/{ALICE}"),
            "m.room.power_levels/",
            "m.room.canonical_alias/",
            "m.room.history_visibility/",
            "m.room.guest_access/",
            "m.room.encryption/",
            "m.room.join_rules/",
            "m.room.name/",
            "m.room.topic/",
            &bob,
        ]
    );
    let content = |name: &str| events.iter().find(|(n, _)| n == name).map(|(_, pdu)| &pdu["content"]).unwrap();
    assert_eq!(*content("m.room.create/"), json!({"type": "m.space", "room_version": "12"}));
    assert_eq!(content("m.room.power_levels/")["events_default"], 10);
    assert_eq!(content("m.room.power_levels/")["users"], json!({}), "creators have no level since version 12");
    assert_eq!(*content(&bob), json!({"membership": "invite", "is_direct": true}));
    let listed = rooms::listed_rooms(&*world.store, TenantId::new(TENANT)).await.unwrap();
    assert_eq!(listed, [room.as_str()]);
}

#[tokio::test]
async fn trusted_friends_have_the_creators_power() {
    for version in ["11", "12"] {
        let mut world = world().await;
        let request = CreateRoomRequest {
            preset: Preset::TrustedPrivateChat.into(),
            invite: vec![BOB.into()],
            ..wanted(version)
        };
        let room = world.found(request).await.unwrap();
        world.member(BOB, &room, BOB, "join").await.unwrap();
        world.put(BOB, &room, ("m.room.encryption", ""), r#"{"algorithm":"x"}"#).await.unwrap();
    }
}

#[tokio::test]
async fn rooms_made_alike_at_one_time_are_two() {
    let mut world = world().await;
    assert_ne!(world.found(wanted("12")).await.unwrap(), world.found(wanted("12")).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let mut world = world().await;
    let refused = [
        (CreateRoomRequest { room_version: "9".into(), ..wanted("9") }, Reason::UnsupportedRoomVersion),
        (CreateRoomRequest { preset: 17, ..wanted("12") }, Reason::BadJson),
        (CreateRoomRequest { creation_content: "[]".into(), ..wanted("12") }, Reason::BadJson),
        (CreateRoomRequest { invite: vec!["bob".into()], ..wanted("12") }, Reason::InvalidParam),
        (
            CreateRoomRequest { creation_content: "{\"additional_creators\":[\"nobody\"]}".into(), ..wanted("12") },
            Reason::InvalidRoomState,
        ),
        (
            CreateRoomRequest {
                power_level_content_override: format!("{{\"users\":{{\"{ALICE}\":100}}}}").into(),
                ..wanted("12")
            },
            Reason::InvalidRoomState,
        ),
        (
            CreateRoomRequest {
                power_level_content_override: "{\"users\":{}}".into(),
                name: Some("Name".into()),
                ..wanted("11")
            },
            Reason::InvalidRoomState,
        ),
        (CreateRoomRequest { initial_state: vec![InitialState::default(); 51], ..wanted("12") }, Reason::InvalidParam),
    ];
    for (request, reason) in refused {
        let error = world.found(request).await.unwrap_err();
        assert_eq!((error.kind, error.reason), (ErrorKind::Invalid, reason));
    }
    let alice = <&UserId>::try_from(ALICE).unwrap();
    let rooms = rooms::memberships(&*world.store, TenantId::new(TENANT), alice).await.unwrap();
    assert_eq!(rooms, [], "no half of a room");
}

#[tokio::test]
async fn a_late_invitation_that_is_refused_takes_nothing_from_the_room() {
    let mut world = world().await;
    let state = |event_type: &str, state_key: &str, content: &str| InitialState {
        event_type: event_type.into(),
        state_key: state_key.into(),
        content: content.to_owned().into(),
    };
    // So many that not all invitations find a place beside them.
    let mut initial_state: Vec<_> = (0..49).map(|at| state("test", &at.to_string(), "{}")).collect();
    let (banned, last) = ("@u98:t7.test", "@u99:t7.test");
    initial_state.push(state("m.room.member", banned, r#"{"membership":"ban"}"#));
    let invite = (0..100).map(|at| format!("@u{at}:t7.test")).collect();
    let request = CreateRoomRequest { initial_state, invite, alias: Some("#a:t7.test".into()), ..wanted("12") };
    let room = world.found(request).await.unwrap();
    assert_eq!(world.membership(banned, &room).await.unwrap().0, "ban");
    assert_eq!(world.membership(last, &room).await.unwrap().0, "invite", "those after it are invited");
    let alias = rooms::alias(&*world.store, TenantId::new(TENANT), "#a:t7.test".try_into().unwrap()).await.unwrap();
    let alias = alias.unwrap();
    assert_eq!((alias.room_id.as_str(), alias.usage), (room.as_str(), rooms::AliasUse::InUse));
}
