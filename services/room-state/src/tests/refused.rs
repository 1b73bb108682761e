//! What isn't done, done once, and found again by another process.

use polity_core::ErrorKind;

use super::*;

const CAROL: &str = "@carol:t7.test";
const NAME: (&str, &str) = ("m.room.name", "");

#[tokio::test]
async fn state_that_stands_already_gives_no_event_and_only_to_members() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let named = world.put(ALICE, &room, NAME, r#"{"name":"n","a":1}"#).await.unwrap();
    assert_eq!(world.put(ALICE, &room, NAME, r#"{"a":1, "name":"n"}"#).await.unwrap(), named);
    assert_ne!(world.put(ALICE, &room, NAME, r#"{"name":"m"}"#).await.unwrap(), named);
    let joined = world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(world.member(BOB, &room, BOB, "join").await.unwrap(), joined);
    let topic = ("m.room.topic", "");
    let levels = format!("{{\"users\":{{\"{BOB}\":50}}}}");
    world.put(ALICE, &room, ("m.room.power_levels", ""), levels).await.unwrap();
    world.put(BOB, &room, topic, r#"{"topic":"t"}"#).await.unwrap();
    let left = world.member(BOB, &room, BOB, "leave").await.unwrap();
    assert_eq!(world.member(BOB, &room, BOB, "leave").await.unwrap(), left, "a repeated request");
    assert_eq!(world.put(BOB, &room, topic, r#"{"topic":"t"}"#).await.unwrap_err().reason, Reason::Forbidden);
}

#[tokio::test]
async fn strangers_change_nothing() {
    let mut world = world().await;
    let room = world.create("12", Preset::PrivateChat).await;
    let before = world.rows(&room).await.len();
    let refused = [
        world.member(BOB, &room, CAROL, "invite").await,
        world.member(BOB, &room, ALICE, "kick").await,
        world.member(BOB, &room, BOB, "leave").await,
        world.member(ALICE, &room, BOB, "kick").await,
        world.member(ALICE, &room, BOB, "unban").await,
        world.member(ALICE, &room, ALICE, "invite").await,
        world.put(BOB, &room, NAME, "{}").await,
        world.put(BOB, &room, ("m.room.member", BOB), r#"{"membership":"join"}"#).await,
    ];
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind, error.reason), (ErrorKind::Forbidden, Reason::Forbidden), "{}", error.message);
    }
    assert_eq!(world.rows(&room).await.len(), before);
}

#[tokio::test]
async fn a_condition_that_no_server_checked_opens_no_restricted_room() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let rule = r#"{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!club"}]}"#;
    world.put(ALICE, &room, ("m.room.join_rules", ""), rule).await.unwrap();
    let forged = format!("{{\"membership\":\"join\",\"join_authorised_via_users_server\":\"{ALICE}\"}}");
    let error = world.put(BOB, &room, ("m.room.member", BOB), forged).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
}

#[tokio::test]
async fn what_is_malformed_or_too_large_has_its_name() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let large = format!("{{\"body\":\"{}\"}}", "x".repeat(65_536));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
    for (content, reason) in [
        (large.as_str(), Reason::TooLarge),
        (&deep, Reason::BadJson),
        ("{\"n\":1.5}", Reason::BadJson),
        ("{\"n\":9007199254740993}", Reason::BadJson),
        ("{\"n\":-9007199254740993}", Reason::BadJson),
        ("{\"n\":\"\\ud800\"}", Reason::BadJson),
        ("[]", Reason::BadJson),
        ("{\"n\":", Reason::BadJson),
    ] {
        let error = world.send_as(ALICE, &room, ("m.room.message", None), content).await.unwrap_err();
        assert_eq!(error.reason, reason, "{}", &content[..content.len().min(40)]);
    }
    let long = "k".repeat(256);
    for name in [("m.state", &*long), (&*long, "")] {
        assert_eq!(world.put(ALICE, &room, name, "{}").await.unwrap_err().reason, Reason::TooLarge);
    }
    assert_eq!(world.send(ALICE, &room, &long).await.unwrap_err().reason, Reason::TooLarge, "a transaction id");
    assert_eq!(world.put(ALICE, &room, ("m.state", BOB), "{}").await.unwrap_err().reason, Reason::Forbidden);
    world.put(ALICE, &room, ("m.state", ALICE), "{}").await.unwrap();
    let nowhere = world.send(ALICE, "!nowhere", "1").await.unwrap_err();
    assert_eq!((nowhere.kind, nowhere.reason), (ErrorKind::Forbidden, Reason::Forbidden), "as of a room of others");
    let nowhere = world.member(ALICE, "!nowhere", ALICE, "join").await.unwrap_err();
    assert_eq!((nowhere.kind, nowhere.reason), (ErrorKind::NotFound, Reason::NotFound));
}

#[tokio::test]
async fn another_process_goes_on_where_the_first_one_stopped() {
    let mut first = world().await;
    let room = first.create("12", Preset::PublicChat).await;
    first.member(BOB, &room, BOB, "join").await.unwrap();
    let sent = first.send(BOB, &room, "1").await.unwrap();
    let mut second = process(first.store.clone(), 2).await;
    assert_eq!(second.send(BOB, &room, "1").await.unwrap(), sent, "the same transaction");
    let (_, seq) = second.send(BOB, &room, "2").await.unwrap();
    assert_eq!(seq, sent.1 + 1);
    assert_eq!(second.send(CAROL, &room, "1").await.unwrap_err().reason, Reason::Forbidden);
    // The first one's head is old now: it learns that and goes on.
    assert_eq!(first.send(BOB, &room, "2").await.map(|(_, seq)| seq), Ok(seq), "the second one's transaction");
    let rows = first.rows(&room).await;
    assert_eq!(rows.len() as u64, seq, "no row twice, none lost");
}
