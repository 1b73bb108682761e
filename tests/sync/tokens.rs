//! Tokens whose rooms don't fit inline, whose snapshot is gone, or which are another store's.

use std::collections::BTreeSet;

use polity_accounts::Message;
use polity_core::sync_token::{RoomSet, SyncToken};
use polity_store::{Store, schema, values_of};
use serde_json::{Value, json};

use crate::world::{TENANT, World, world};

const ADMIN: &str = "@admin:t.test";
const BOB: &str = "@bob:t.test";
/// More than a token holds inline.
const ROOMS: usize = 404;

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

fn rooms(answer: &Value, section: &str) -> BTreeSet<String> {
    answer["rooms"][section].as_object().into_iter().flatten().map(|(room, _)| room.clone()).collect()
}

async fn sync(world: &World, since: Option<&String>) -> Value {
    let filter = json!({"room": {"timeline": {"limit": 1}}});
    world.sync(&world.request(BOB, since.cloned(), filter, false)).await
}

/// The snapshot on which a token stands, and how many rooms differ from it.
fn snapshot(world: &World, token: &str) -> ([u8; 16], usize) {
    let token = SyncToken::decode(token, &world.key, world.viewer(BOB).token_owner()).unwrap();
    match token.rooms {
        RoomSet::Snapshot { id, moved } => (id, moved.len()),
        RoomSet::Inline(_) => panic!("inline"),
    }
}

async fn message_to_bob(world: &World, txn: &str) {
    let message = Message {
        user_id: BOB.try_into().unwrap(),
        device_id: None,
        event: json!({"type": "t", "sender": ADMIN, "content": {"txn": txn}}).to_string().into(),
    };
    let from = world.viewer(ADMIN);
    world.engine.accounts.send_to_device(from.device(), txn, vec![message]).await.unwrap();
}

fn messages(answer: &Value) -> Vec<String> {
    let events = answer["to_device"]["events"].as_array().into_iter().flatten();
    events.map(|event| event["content"]["txn"].as_str().unwrap().to_owned()).collect()
}

async fn joined(world: &World, count: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        let room = world.create(ADMIN, "public_chat").await;
        world.member(BOB, &room, BOB, "join", None).await;
        rooms.push(room);
    }
    rooms
}

async fn say(world: &World, room: &str) {
    world.send(ADMIN, room, ("m.room.message", None), json!({"body": "x"}), None).await;
}

#[tokio::test]
async fn many_rooms_stand_in_a_snapshot_and_a_lost_one_is_a_limited_resync_that_tells_every_leave() {
    let world = world().await;
    for user in [ADMIN, BOB] {
        world.register(user).await;
    }
    let all = joined(&world, ROOMS).await;
    let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    world.send(ADMIN, &all[0], ("m.room.encryption", Some("")), encryption, None).await;
    let first = sync(&world, None).await;
    assert_eq!(rooms(&first, "join").len(), ROOMS);
    let (id, moved) = snapshot(&world, &token(&first));
    assert_eq!(moved, 0);

    say(&world, &all[1]).await;
    world.member(BOB, &all[2], BOB, "leave", None).await;
    let second = sync(&world, Some(&token(&first))).await;
    assert_eq!((rooms(&second, "join"), rooms(&second, "leave")), (one(&all[1]), one(&all[2])));
    assert_eq!(snapshot(&world, &token(&second)), (id, 2), "the same snapshot, and what moved since");
    assert_eq!(sync(&world, Some(&token(&second))).await.get("rooms"), None);

    // After more than a hundred moves it is written anew; the old token stays good.
    for room in &all[3..120] {
        say(&world, room).await;
    }
    let third = sync(&world, Some(&token(&second))).await;
    assert_eq!(rooms(&third, "join").len(), 117);
    let (newer, moved) = snapshot(&world, &token(&third));
    assert!(newer != id && moved == 0);
    assert_eq!(rooms(&sync(&world, Some(&token(&second))).await, "join").len(), 117);

    // It expires.
    world.member(BOB, &all[3], BOB, "leave", None).await;
    message_to_bob(&world, "once").await;
    let keys = b"{\"keys\":{}}".to_vec();
    world.engine.accounts.set_device_keys(world.viewer(ADMIN).device(), keys).await.unwrap();
    let partition = values_of![TENANT, bytes::Bytes::copy_from_slice(&newer)];
    world.store.drop_partition(&schema::SYNC_SNAPSHOTS, partition).await.unwrap();
    let resync = sync(&world, Some(&token(&third))).await;
    assert_eq!(rooms(&resync, "leave"), BTreeSet::from([all[2].clone(), all[3].clone()]), "every room left");
    assert_eq!(rooms(&resync, "join").len(), ROOMS - 2);
    let timelines = resync["rooms"]["join"].as_object().unwrap().values();
    assert!(
        timelines.into_iter().all(|room| room["timeline"]["limited"] == true),
        "what the client has may not follow"
    );
    assert_eq!(messages(&resync), ["once"]);
    assert!(resync["device_lists"]["changed"].as_array().unwrap().iter().any(|user| user == ADMIN), "{resync}");
    assert!(resync.get("account_data").is_none(), "the record's position is good: {resync}");
    let after = sync(&world, Some(&token(&resync))).await;
    assert_eq!((after.get("rooms"), after.get("device_lists"), messages(&after)), (None, None, vec![]));
}

fn one(room: &str) -> BTreeSet<String> {
    BTreeSet::from([room.to_owned()])
}

#[tokio::test]
async fn a_token_of_another_store_is_void_and_everything_is_told_anew() {
    let (before, world) = (world().await, world().await);
    before.register(BOB).await;
    before.register(ADMIN).await;
    joined(&before, 3).await;
    for n in 0..5 {
        message_to_bob(&before, &n.to_string()).await;
    }
    let stale = token(&sync(&before, None).await);

    for user in [ADMIN, BOB] {
        world.register(user).await;
    }
    let all = joined(&world, 2).await;
    world.member(BOB, &all[1], BOB, "leave", None).await;
    message_to_bob(&world, "new").await;
    let answer = sync(&world, Some(&stale)).await;
    assert_eq!((rooms(&answer, "join"), rooms(&answer, "leave")), (one(&all[0]), one(&all[1])));
    assert_eq!(answer["rooms"]["join"][&all[0]]["timeline"]["limited"], true);
    assert_eq!(messages(&answer), ["new"]);
    assert!(answer["account_data"]["events"].as_array().unwrap().iter().any(|event| event["type"] == "m.push_rules"));
    assert_eq!(answer["device_lists"]["changed"], json!([BOB]), "the own devices may be others, too");
    let after = sync(&world, Some(&token(&answer))).await;
    assert_eq!((after.get("rooms"), after.get("account_data"), messages(&after)), (None, None, vec![]));
    assert!(after.get("device_lists").is_none(), "once: {after}");
}
