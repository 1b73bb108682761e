//! What a process leaves of an alias that dies while it makes a room with one.

use http::{Method, StatusCode};
use polity_store::rooms::{self, AliasUse};
use polity_tests::{Client, Failure, Sandbox, Stopped};
use ruma_common::{RoomAliasId, RoomId, UserId, owned_room_alias_id, room_id};
use serde_json::{Value, json};

async fn reserve(stopped: &Stopped, alias: &RoomAliasId, room: &RoomId, by: &str, since_ms: u64) {
    let by = <&UserId>::try_from(by).expect("a user id");
    let usage = (AliasUse::Reserved, since_ms);
    let made = rooms::claim_alias(&*stopped.store, stopped.tenant, alias, None, (room, by), usage).await;
    assert!(made.expect("written").is_some(), "{alias} was free");
}

async fn usage(stopped: &Stopped, alias: &RoomAliasId) -> Option<AliasUse> {
    rooms::alias(&*stopped.store, stopped.tenant, alias).await.expect("read").map(|alias| alias.usage)
}

async fn resolve(client: &Client, name: &str) -> Result<Value, Failure> {
    client.call(Method::GET, &format!("/directory/room/%23{name}%3Apolity.test"), None).await
}

#[tokio::test]
async fn a_reservation_counts_for_as_much_as_its_room() {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut alice = sandbox.client();
    alice.register("alice", "correct horse").await.expect("an account");
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    sandbox.kill().await;

    let (made, never) = (owned_room_alias_id!("#made:polity.test"), owned_room_alias_id!("#never:polity.test"));
    let stopped = Stopped::of(&sandbox);
    // As if it had died after it made the one room, and before the other one.
    reserve(&stopped, &made, room.as_str().try_into().expect("a room id"), &alice.user_id, 1).await;
    reserve(&stopped, &never, room_id!("!never"), &alice.user_id, 1).await;
    drop(stopped);
    sandbox.restart().await;

    assert_eq!(resolve(&alice, "made").await.expect("the room that came to be")["room_id"], *room);
    let refused = |answer| matches!(answer, Err(Failure::Refused(StatusCode::NOT_FOUND, _)));
    assert!(refused(resolve(&alice, "never").await));
    // Who wants the alias of a room that never came gets it.
    let other = alice.create_room(json!({"room_alias_name": "never"})).await.expect("a room");
    assert_eq!(resolve(&alice, "never").await.expect("an alias")["room_id"], *other);
    let taken = alice.create_room(json!({"room_alias_name": "made"})).await.expect_err("taken");
    assert_eq!(taken.errcode(), Some("M_ROOM_IN_USE"));
    sandbox.kill().await;

    let stopped = Stopped::of(&sandbox);
    assert_eq!(usage(&stopped, &made).await, Some(AliasUse::InUse), "settled by who resolved it");
    assert_eq!(usage(&stopped, &never).await, Some(AliasUse::InUse));
}
