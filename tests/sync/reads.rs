//! What a sync reads of the store: nothing for what hasn't moved (design, section 12).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::world::{World, world};

const ADMIN: &str = "@admin:t.test";
const BOB: &str = "@bob:t.test";
/// Users of the storm.
const USERS: usize = 20;
/// Rooms in which all of them are.
const ROOMS: usize = 5;
/// Reads of one user who comes back to a process that knows nothing: memberships, record, settings, inbox, keys, and for each room with
/// news the own receipts, those that are shown, and the place of an event.
const PER_USER: u64 = 8 + 3 * ROOMS as u64;

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

async fn say(world: &World, room: &str, body: &str) {
    let content = json!({"msgtype": "m.text", "body": body});
    world.send(ADMIN, room, ("m.room.message", None), content, None).await;
}

/// A room with the user in it, and the token of somebody who has seen all of it.
async fn warm(world: &World) -> (String, String) {
    world.register(BOB).await;
    let room = world.create(ADMIN, "public_chat").await;
    world.member(BOB, &room, BOB, "join", None).await;
    let mut since = None;
    for n in 0..3 {
        say(world, &room, &n.to_string()).await;
        // The rows come by the bus, too.
        tokio::time::sleep(Duration::from_millis(20)).await;
        since = Some(token(&world.sync(&world.request(BOB, since, json!({}), false)).await));
    }
    (room, since.unwrap())
}

#[tokio::test]
async fn an_incremental_sync_reads_nothing_for_what_has_not_moved() {
    let world = world().await;
    let (_, since) = warm(&world).await;
    world.reads.reads();
    for _ in 0..3 {
        let answer = world.sync(&world.request(BOB, Some(since.clone()), json!({}), false)).await;
        assert_eq!((answer.get("rooms"), world.reads.reads()), (None, 0));
    }
}

#[tokio::test]
async fn a_waiting_sync_is_woken_without_a_read() {
    let world = world().await;
    let (room, since) = warm(&world).await;
    let mut since = since;
    for n in 0..3 {
        let mut request = world.request(BOB, Some(since), json!({}), false);
        request.timeout = Duration::from_secs(10);
        let engine = Arc::clone(&world.engine);
        let waiting = polity_core::tasks::spawn(async move { engine.sync(&request, || ()).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.reads.reads();
        say(&world, &room, &format!("wake up, {n}")).await;
        let answer: Value = serde_json::from_slice(&polity_sync::v3::encode(waiting.await.unwrap())).unwrap();
        let events = answer["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap();
        assert_eq!((events.len(), world.reads.reads()), (1, 0), "{answer}");
        assert_eq!(answer["rooms"]["join"][&room]["unread_notifications"]["notification_count"], 4 + n);
        since = token(&answer);
    }
}

/// Counts the guards that a sync has taken and those that it holds.
#[derive(Clone, Default)]
struct Parked(Arc<(AtomicUsize, AtomicUsize)>);

impl Parked {
    fn park(&self) -> Guard {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }

    /// How often it waited, and whether it does.
    fn seen(&self) -> (usize, usize) {
        (self.0.0.load(Ordering::SeqCst), self.0.1.load(Ordering::SeqCst))
    }
}

struct Guard(Parked);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_sync_is_parked_while_it_waits_and_only_then() {
    let world = world().await;
    let (room, since) = warm(&world).await;
    let parked = Parked::default();
    // What has an answer at once never waits.
    let mut request = world.request(BOB, None, json!({}), false);
    request.timeout = Duration::from_secs(10);
    world.engine.sync(&request, || parked.park()).await.unwrap();
    assert_eq!(parked.seen(), (0, 0));
    request.since = Some(since);
    let (engine, watched) = (Arc::clone(&world.engine), parked.clone());
    let waiting =
        polity_core::tasks::spawn(
            async move { engine.sync(&request, || watched.park()).await.map(|_| watched.seen()) },
        );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(parked.seen(), (1, 1));
    say(&world, &room, "wake up").await;
    assert_eq!(waiting.await.unwrap().unwrap(), (1, 0), "not while it answers");
    // One that ends at the time-out gives it back, too.
    let now = world.sync(&world.request(BOB, None, json!({}), false)).await;
    let mut request = world.request(BOB, Some(token(&now)), json!({}), false);
    request.timeout = Duration::from_millis(10);
    world.engine.sync(&request, || parked.park()).await.unwrap();
    assert_eq!(parked.seen(), (2, 0));
}

#[tokio::test]
async fn what_was_kept_is_not_trusted_after_a_write() {
    let world = world().await;
    let (room, since) = warm(&world).await;
    // A receipt, keys, a membership and account data: each seen by the next answer.
    let rows = world.rows(&room).await;
    let last = rows.last().unwrap();
    world.read(BOB, &room, (rows.len(), &last.event_id), (false, "")).await;
    say(&world, &room, "unread").await;
    let answer = world.sync(&world.request(BOB, Some(since), json!({}), false)).await;
    assert_eq!(answer["rooms"]["join"][&room]["unread_notifications"]["notification_count"], 1);
    assert_eq!(answer["device_one_time_keys_count"]["signed_curve25519"], 0);
    let viewer = world.viewer(BOB);
    let key = |n: u8| polity_accounts::OneTimeKey {
        algorithm: "signed_curve25519".into(),
        key_id: n.to_string(),
        key: b"{}".to_vec(),
    };
    let accounts = &world.engine.accounts;
    accounts.upload_one_time_keys(viewer.device(), vec![key(1), key(2)]).await.unwrap();
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), json!({}), false)).await;
    assert_eq!(answer["device_one_time_keys_count"]["signed_curve25519"], 2);
    let (tenant, user, device) = (viewer.tenant, &viewer.user_id, &viewer.device_id);
    accounts.claim_one_time_key(tenant, user, device, "signed_curve25519").await.unwrap().unwrap();
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), json!({}), false)).await;
    assert_eq!(answer["device_one_time_keys_count"]["signed_curve25519"], 1);
    let second = world.create(ADMIN, "public_chat").await;
    world.member(BOB, &second, BOB, "join", None).await;
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), json!({}), false)).await;
    assert!(answer["rooms"]["join"].get(&second).is_some(), "{answer}");
}

#[tokio::test]
async fn a_storm_reads_each_room_once_and_a_bounded_number_for_each_user() {
    let world = world().await;
    let users: Vec<String> = (0..USERS).map(|n| format!("@user{n}:t.test")).collect();
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = world.create(ADMIN, "public_chat").await;
        for user in &users {
            world.member(user, &room, user, "join", None).await;
        }
        rooms.push(room);
    }
    let mut tokens = Vec::new();
    for user in &users {
        tokens.push(token(&world.sync(&world.request(user, None, json!({}), false)).await));
    }
    for room in &rooms {
        say(&world, room, "what you missed").await;
    }
    let (engine, reads) = world.restarted();
    reads.reads();
    let mut each = Vec::new();
    for (user, since) in users.iter().zip(tokens) {
        let answer = engine.sync(&world.request(user, Some(since), json!({}), false), || ()).await.unwrap();
        assert_eq!(answer.joined.len(), ROOMS);
        each.push(reads.reads());
    }
    // The first one reads the rooms for all.
    assert!(each[1..].iter().all(|reads| *reads <= PER_USER), "{each:?}");
    assert!(each[0] <= PER_USER + 20 * ROOMS as u64, "{each:?}");
}
