//! Each kind of message that the bus loses costs whoever waits at most a second.

use std::time::{Duration, Instant};

use polity_bus::SubjectKind;
use serde_json::{Value, json};

use crate::world::{Client, World, said};

/// A second, and what the answer itself takes on a busy machine.
const LATE: Duration = Duration::from_millis(1_500);

const KINDS: [SubjectKind; 6] = [
    SubjectKind::Room,
    SubjectKind::RoomEphemeral,
    SubjectKind::User,
    SubjectKind::Device,
    SubjectKind::DeviceLists,
    SubjectKind::Digest,
];

/// Waits at one instance for what is done at the other (or at the same one); what it is told, and after how long.
async fn told(
    waiter: &Client<'_>,
    at: usize,
    act: impl Future<Output = ()>,
    found: impl Fn(&Value) -> bool,
) -> Duration {
    // Whatever was on its way.
    for _ in 0..10 {
        waiter.sync_at_next(at, 50).await;
    }
    let waits = async {
        for _ in 0..20 {
            let answer = waiter.sync_at_next(at, 10_000).await;
            if found(&answer) {
                return Instant::now();
            }
        }
        panic!("not told");
    };
    let acts = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        act.await;
        began
    };
    let (told, began) = tokio::join!(waits, acts);
    told.saturating_duration_since(began)
}

/// Everything that somebody may wait for, done at one instance, waited for at another.
async fn everything(
    world: &World,
    (alice, bob): (&Client<'_>, &Client<'_>),
    room: &str,
    (acts, waits): (usize, usize),
) {
    let n = format!("{acts}{waits}{}", world.bus.lost());
    let message = async {
        let path = format!("/rooms/{room}/send/m.room.message/{n}");
        assert_eq!(alice.at(acts, "PUT", &path, json!({"body": n})).await.0, 200);
    };
    let late = told(bob, waits, message, |answer| said(answer, room) == [n.clone()]).await;
    assert!(late < LATE, "a message after {late:?}");
    let invite = async {
        let body = json!({"preset": "private_chat", "invite": [bob.user_id]});
        assert_eq!(alice.at(acts, "POST", "/createRoom", body).await.0, 200);
    };
    let late = told(bob, waits, invite, |answer| answer["rooms"]["invite"].is_object()).await;
    assert!(late < LATE, "an invitation after {late:?}");
    let data = async {
        let path = format!("/user/{}/account_data/a.b", bob.user_id);
        assert_eq!(bob.at(acts, "PUT", &path, json!({"n": n})).await.0, 200);
    };
    let late = told(bob, waits, data, |answer| answer["account_data"].is_object()).await;
    assert!(late < LATE, "account data after {late:?}");
    let to_device = async {
        let body = json!({"messages": {(&bob.user_id): {"*": {"n": n}}}});
        assert_eq!(alice.at(acts, "PUT", &format!("/sendToDevice/a.b/{n}"), body).await.0, 200);
    };
    let late = told(bob, waits, to_device, |answer| answer["to_device"].is_object()).await;
    assert!(late < LATE, "a message to a device after {late:?}");
    let device = async {
        assert_eq!(alice.at(acts, "PUT", "/devices/D", json!({"display_name": n})).await.0, 200);
    };
    let late = told(bob, waits, device, |answer| answer["device_lists"]["changed"][0] == alice.user_id).await;
    assert!(late < LATE, "a changed device after {late:?}");
}

async fn ephemeral((alice, bob): (&Client<'_>, &Client<'_>), room: &str, (acts, waits): (usize, usize)) {
    let typing = async {
        let path = format!("/rooms/{room}/typing/{}", alice.user_id);
        assert_eq!(alice.at(acts, "PUT", &path, json!({"typing": true, "timeout": 60_000})).await.0, 200);
    };
    let late = told(bob, waits, typing, |answer| is_told(answer, room, "m.typing")).await;
    assert!(late < LATE, "typing after {late:?}");
    let path = format!("/rooms/{room}/typing/{}", alice.user_id);
    let stops = async {
        assert_eq!(alice.at(acts, "PUT", &path, json!({"typing": false})).await.0, 200);
    };
    let late = told(bob, waits, stops, |answer| is_told(answer, room, "m.typing")).await;
    assert!(late < LATE, "the end of typing after {late:?}");
    let event = alice.say(room, &format!("read{acts}{waits}")).await;
    let receipt = async {
        let path = format!("/rooms/{room}/receipt/m.read/{event}");
        assert_eq!(alice.at(acts, "POST", &path, json!({})).await.0, 200);
    };
    let late = told(bob, waits, receipt, |answer| is_told(answer, room, "m.receipt")).await;
    assert!(late < LATE, "a receipt after {late:?}");
}

fn is_told(answer: &Value, room: &str, kind: &str) -> bool {
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().any(|event| event["type"] == kind)
}

/// Alice and Bob in an encrypted room.
async fn together(alice: &Client<'_>, bob: &Client<'_>) -> String {
    let room = alice.create().await;
    bob.call("POST", &format!("/join/{room}"), json!({})).await;
    let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    alice.call("PUT", &format!("/rooms/{room}/state/m.room.encryption/"), encryption).await;
    bob.sync(0).await;
    room
}

async fn without(kinds: &[SubjectKind]) {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = together(&alice, &bob).await;
    world.bus.lose(kinds);
    for way in [(0, 1), (1, 1)] {
        everything(&world, (&alice, &bob), &room, way).await;
    }
    assert!(kinds.is_empty() || kinds == [SubjectKind::RoomEphemeral] || world.bus.lost() > 0, "none was sent");
}

#[tokio::test]
async fn nothing_lost() {
    without(&[]).await;
}

#[tokio::test]
async fn rows_of_rooms_lost() {
    without(&[SubjectKind::Room]).await;
}

#[tokio::test]
async fn wakes_of_users_lost() {
    without(&[SubjectKind::User]).await;
}

#[tokio::test]
async fn wakes_of_devices_lost() {
    without(&[SubjectKind::Device]).await;
}

#[tokio::test]
async fn changes_of_devices_lost() {
    without(&[SubjectKind::DeviceLists]).await;
}

#[tokio::test]
async fn digests_lost() {
    without(&[SubjectKind::Digest]).await;
}

#[tokio::test]
async fn everything_lost() {
    without(&KINDS).await;
}

#[tokio::test]
async fn typing_and_receipts_lost_once() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = together(&alice, &bob).await;
    world.bus.lose_every_other(SubjectKind::RoomEphemeral);
    for way in [(0, 1), (1, 0), (1, 1)] {
        ephemeral((&alice, &bob), &room, way).await;
    }
}

#[tokio::test]
async fn two_instances_agree_on_who_types_and_leave_the_client_in_peace() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = together(&alice, &bob).await;
    let event = alice.say(&room, "read-this").await;
    alice.call("POST", &format!("/rooms/{room}/receipt/m.read/{event}"), json!({})).await;
    let path = format!("/rooms/{room}/typing/{}", alice.user_id);
    alice.call("PUT", &path, json!({"typing": true, "timeout": 60_000})).await;
    // Told by each, and once more by one that hadn't heard of it; then no more: a sync at either instance waits.
    let began = Instant::now();
    while began.elapsed() < LATE {
        bob.sync(50).await;
    }
    for n in 0..6 {
        let began = Instant::now();
        let answer = bob.sync(200).await;
        assert!(began.elapsed() >= Duration::from_millis(190), "{n}: nothing is new: {answer}");
    }
}
