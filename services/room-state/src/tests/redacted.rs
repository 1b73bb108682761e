//! Redactions: who may, what they count, once.

use polity_proto::room_state::RedactEventRequest;
use polity_room_engine::record::RoomHead;

use super::*;

const CAROL: &str = "@carol:t7.test";

impl World {
    async fn head(&self, room: &str) -> RoomHead {
        let key = self.names.find(TenantId::new(TENANT), room).await.unwrap().unwrap();
        let found = read::head(&*self.store, key, Seq::ZERO, Consistency::Serial).await.unwrap().unwrap();
        RoomHead::decode(&found.head.state).unwrap()
    }

    async fn redact(&mut self, user: &str, room: &str, target: &str) -> Result<String, Detail> {
        let request = RedactEventRequest {
            requester: who(user),
            room_id: room.into(),
            event_id: target.into(),
            ..Default::default()
        };
        event(self.client.redact_event(request).await, |answer| answer.event)
    }
}

#[tokio::test]
async fn one_redacts_ones_own_and_moderators_all() {
    for version in ["10", "11", "12"] {
        let mut world = world().await;
        let room = world.create(version, Preset::PublicChat).await;
        world.member(BOB, &room, BOB, "join").await.unwrap();
        let (own, _) = world.send(BOB, &room, "own").await.unwrap();
        let (others, seq) = world.send(ALICE, &room, "others").await.unwrap();
        assert_eq!(world.redact(BOB, &room, &others).await.unwrap_err().reason, Reason::Forbidden);
        assert_eq!(world.redact(BOB, &room, "$nothing").await.unwrap_err().reason, Reason::NotFound);
        world.redact(BOB, &room, &own).await.unwrap();
        let first = world.redact(ALICE, &room, &others).await.unwrap();
        world.redact(ALICE, &room, &others).await.unwrap();
        // Sent as an ordinary event, too.
        let by_content = format!("{{\"redacts\":\"{others}\"}}");
        world.send_as(ALICE, &room, ("m.room.redaction", None), by_content).await.unwrap();
        let rows = world.rows(&room).await;
        let last = rows.last().unwrap();
        assert_eq!(last.meta.redacts, Some((others.as_str().try_into().unwrap(), Some(Seq::new(seq)))));
        assert_eq!((last.meta.counts.notifying, last.meta.counts.redacted), (2, 2), "each event once");
        let key = world.names.find(TenantId::new(TENANT), &room).await.unwrap().unwrap();
        let redacted = rooms::redactions_between(&*world.store, key, Seq::new(seq), Seq::new(seq)).await.unwrap();
        let [redacted] = &redacted[..] else { panic!("{redacted:?}") };
        assert_eq!((redacted.seq, redacted.by.as_str()), (Seq::new(seq), first.as_str()), "the first one stays");
        let redacts = |row: &RoomRow| matches!(&row.meta.redacts, Some((_, Some(target))) if target.get() == seq);
        let at = rows.iter().position(redacts).unwrap();
        assert_eq!(redacted.at.get(), at as u64 + 1);
    }
}

#[tokio::test]
async fn events_of_other_rooms_are_out_of_reach() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let other = world.create("12", Preset::PublicChat).await;
    let (event, _) = world.send(ALICE, &other, "there").await.unwrap();
    assert_eq!(world.redact(ALICE, &room, &event).await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn redactions_at_once_count_once() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let (event, _) = world.send(ALICE, &room, "gone").await.unwrap();
    let redactions = (0..8).map(|_| {
        let mut world = world.clone();
        let (room, event) = (room.clone(), event.clone());
        async move { world.redact(ALICE, &room, &event).await.unwrap() }
    });
    futures_util::future::join_all(redactions).await;
    assert_eq!(world.rows(&room).await.last().unwrap().meta.counts.redacted, 1);
}

#[tokio::test]
async fn a_redacted_name_is_no_name_any_more() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let old = world.put(ALICE, &room, ("m.room.name", ""), r#"{"name":"Old"}"#).await.unwrap();
    let name = world.put(ALICE, &room, ("m.room.name", ""), r#"{"name":"Secret"}"#).await.unwrap();
    world.put(ALICE, &room, ("m.room.topic", ""), r#"{"topic":"Topic"}"#).await.unwrap();
    world.redact(ALICE, &room, &old).await.unwrap();
    assert_eq!(world.head(&room).await.summary.name.as_deref(), Some("Secret"), "that one was replaced before");
    world.redact(ALICE, &room, &name).await.unwrap();
    let summary = world.head(&room).await.summary;
    assert_eq!((summary.name, summary.topic.as_deref(), summary.joined), (None, Some("Topic"), 1));
}

#[tokio::test]
async fn what_decides_is_what_redaction_left() {
    let mut first = world().await;
    // Before version 11 the level for invitations doesn't survive.
    let room = first.create("10", Preset::PublicChat).await;
    first.member(BOB, &room, BOB, "join").await.unwrap();
    let levels = format!(r#"{{"invite":100,"users":{{"{ALICE}":100}}}}"#);
    let levels = first.put(ALICE, &room, ("m.room.power_levels", ""), &levels).await.unwrap();
    let invite = first.member(BOB, &room, CAROL, "invite").await.unwrap_err();
    assert_eq!(invite.reason, Reason::Forbidden);
    let mut second = process(first.store.clone(), 2).await;
    assert_eq!(second.member(BOB, &room, CAROL, "invite").await.unwrap_err().reason, Reason::Forbidden);
    first.redact(ALICE, &room, &levels).await.unwrap();
    first.member(BOB, &room, CAROL, "invite").await.unwrap();
    let mut third = process(first.store.clone(), 3).await;
    third.member(BOB, &room, "@dan:t7.test", "invite").await.unwrap();
}

#[tokio::test]
async fn what_was_redacted_is_set_anew() {
    let mut first = world().await;
    let room = first.create("12", Preset::PublicChat).await;
    // Of a rule for joining redaction takes nothing: only that it was redacted tells the two apart.
    for (name, content) in [("m.room.topic", r#"{"topic":"T"}"#), ("m.room.join_rules", r#"{"join_rule":"invite"}"#)] {
        let set = first.put(ALICE, &room, (name, ""), content).await.unwrap();
        assert_eq!(first.put(ALICE, &room, (name, ""), content).await.unwrap(), set, "nothing would change");
        first.redact(ALICE, &room, &set).await.unwrap();
        let again = first.put(ALICE, &room, (name, ""), content).await.unwrap();
        assert_ne!(again, set, "{name}");
        first.redact(ALICE, &room, &again).await.unwrap();
        // Somebody else knows only what is stored.
        let mut second = process(first.store.clone(), 2).await;
        let thrice = second.put(ALICE, &room, (name, ""), content).await.unwrap();
        assert_ne!(thrice, again, "{name}");
        first = second;
    }
}
