//! Who got an answer from one instance sees its effect at the other at once; and what that costs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, said};

/// How often each thing is done, so that it is done at either instance, and the bus is sometimes later and sometimes sooner.
const TIMES: usize = 6;

#[tokio::test]
async fn what_one_instance_acknowledged_the_other_shows() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let user = format!("/user/{}", bob.user_id);
    for n in 0..TIMES {
        // A room, joined by the other.
        let room = alice.create().await;
        bob.call("POST", &format!("/join/{room}"), json!({})).await;
        let answer = bob.sync(0).await;
        assert!(answer["rooms"]["join"].get(&room).is_some(), "{n}: {answer}");
        // A message, and a receipt for it.
        let event = alice.say(&room, &format!("m{n}")).await;
        let answer = bob.sync(0).await;
        assert_eq!(said(&answer, &room), [format!("m{n}")], "{answer}");
        let unread =
            |answer: &Value| answer["rooms"]["join"][&room]["unread_notifications"]["notification_count"].clone();
        assert_eq!(unread(&answer), 1);
        bob.call("POST", &format!("/rooms/{room}/receipt/m.read/{event}"), json!({})).await;
        alice.say(&room, &format!("n{n}")).await;
        assert_eq!(unread(&bob.sync(0).await), 1);
        // Account data, in a sync and asked for.
        bob.call("PUT", &format!("{user}/account_data/a.b"), json!({"n": n})).await;
        assert_eq!(bob.get(&format!("{user}/account_data/a.b")).await, json!({"n": n}));
        assert_eq!(bob.sync(0).await["account_data"]["events"], json!([{"type": "a.b", "content": {"n": n}}]));
        // Whom he ignores, and no longer.
        for ignored in [json!({(&alice.user_id): {}}), json!({})] {
            let list = json!({"ignored_users": ignored});
            bob.call("PUT", &format!("{user}/account_data/m.ignored_user_list"), list).await;
            bob.sync(0).await;
            alice.say(&room, &format!("o{n}{}", ignored == json!({}))).await;
            assert_eq!(said(&bob.sync(0).await, &room).is_empty(), ignored != json!({}));
        }
        // The directory.
        alice.call("PUT", &format!("/directory/list/room/{room}"), json!({"visibility": "public"})).await;
        assert!(bob.get("/publicRooms").await.to_string().contains(&room));
        alice.call("PUT", &format!("/directory/list/room/{room}"), json!({"visibility": "private"})).await;
        assert!(!bob.get("/publicRooms").await.to_string().contains(&room));
        // A filter.
        let filter = bob.call("POST", &format!("{user}/filter"), json!({"room": {"timeline": {"limit": n + 1}}})).await;
        let filter = filter["filter_id"].as_str().unwrap();
        assert_eq!(bob.get(&format!("{user}/filter/{filter}")).await["room"]["timeline"]["limit"], n + 1);
        // A device's name, and the profile.
        bob.call("PUT", "/devices/D", json!({"display_name": n.to_string()})).await;
        assert_eq!(bob.get("/devices/D").await["display_name"], n.to_string());
        bob.call("PUT", &format!("/profile/{}/displayname", bob.user_id), json!({"displayname": n.to_string()})).await;
        assert_eq!(bob.get(&format!("/profile/{}", bob.user_id)).await["displayname"], n.to_string());
        // Out of the room.
        alice.call("POST", &format!("/rooms/{room}/kick"), json!({"user_id": bob.user_id})).await;
        assert_eq!(bob.at(n, "GET", &format!("/rooms/{room}/members"), Value::Null).await.0, 200, "up to the kick");
        let send = format!("/rooms/{room}/send/m.room.message/late{n}");
        assert_eq!(bob.at(n, "PUT", &send, json!({"body": "late"})).await.0, 403);
        let answer = bob.sync(0).await;
        assert!(answer["rooms"]["leave"].get(&room).is_some(), "{answer}");
    }
}

#[tokio::test]
async fn who_is_out_of_a_room_reads_nothing_more_of_it_anywhere() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    for n in 0..TIMES {
        let room = alice.create().await;
        bob.call("POST", &format!("/join/{room}"), json!({})).await;
        let messages = format!("/rooms/{room}/messages?dir=b&limit=5");
        bob.get(&messages).await;
        bob.get(&messages).await;
        alice.call("POST", &format!("/rooms/{room}/ban"), json!({"user_id": bob.user_id})).await;
        let hidden = alice.say(&room, &format!("hidden{n}")).await;
        for at in 0..2 {
            let event = bob.at(at, "GET", &format!("/rooms/{room}/event/{hidden}"), Value::Null).await;
            assert_eq!(event.0, 404, "{event:?}");
            let (status, answer) = bob.at(at, "GET", &messages, Value::Null).await;
            assert_eq!(status, 200);
            assert!(!answer.to_string().contains("hidden"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_logout_at_one_instance_ends_the_token_at_the_other() {
    let world = World::of(2).await;
    for n in 0..TIMES {
        let user = world.user(&format!("user{n}")).await;
        for at in 0..4 {
            assert_eq!(user.at(at, "GET", "/account/whoami", Value::Null).await.0, 200);
        }
        assert_eq!(user.at(n, "POST", "/logout", json!({})).await.0, 200);
        for at in [n + 1, n] {
            assert_eq!(user.at(at, "GET", "/account/whoami", Value::Null).await.0, 401);
        }
    }
}

#[tokio::test]
async fn a_token_is_exact_when_both_instances_answer_it_at_once() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = alice.create().await;
    bob.call("POST", &format!("/join/{room}"), json!({})).await;
    bob.sync(0).await;
    for n in 0..2 * TIMES {
        let txn = format!("t{n}");
        alice.say(&room, &txn).await;
        let answers = tokio::join!(bob.sync_at(0, 0), bob.sync_at(1, 0));
        assert_eq!(said(&answers.0, &room), [&*txn]);
        assert_eq!(said(&answers.1, &room), [&*txn]);
        // The client takes one of them.
        let taken = if n % 3 == 0 { &answers.0 } else { &answers.1 };
        *bob.since.lock() = Some(taken["next_batch"].as_str().unwrap().to_owned());
    }
    assert_eq!(said(&bob.sync(0).await, &room), [""; 0]);
}

#[tokio::test]
async fn interactive_authentication_goes_on_at_another_instance() {
    let world = World::of(2).await;
    let user = world.user("alice").await;
    let (status, challenge) = user.at(0, "DELETE", "/devices/D", json!({})).await;
    assert_eq!(status, 401, "{challenge}");
    let identifier = json!({"type": "m.id.user", "user": user.user_id});
    let auth = json!({"type": "m.login.password", "identifier": identifier, "password": "secret",
        "session": challenge["session"]});
    assert_eq!(user.at(1, "DELETE", "/devices/D", json!({"auth": auth})).await.0, 200);
    assert_eq!(user.at(0, "GET", "/account/whoami", Value::Null).await.0, 401);
}

#[tokio::test]
async fn a_transaction_repeated_at_another_instance_gives_the_same_event() {
    let world = World::of(2).await;
    let alice = world.user("alice").await;
    let room = alice.create().await;
    for n in 0..TIMES {
        let path = format!("/rooms/{room}/send/m.room.message/t{n}");
        let send = |at: usize| alice.at(at, "PUT", &path, json!({"body": n.to_string()}));
        let (first, second) = tokio::join!(send(0), send(1));
        let third = send(n).await;
        assert_eq!((first.0, &first, &first), (200, &second, &third));
    }
    alice.sync(0).await;
    alice.sync(0).await;
}

#[tokio::test]
async fn nothing_is_read_for_what_has_not_moved_whichever_instance_is_asked() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    for n in 0..3 {
        let room = alice.create().await;
        bob.call("POST", &format!("/join/{room}"), json!({})).await;
        alice.say(&room, &n.to_string()).await;
    }
    for _ in 0..4 {
        bob.sync(0).await;
    }
    let reads = || world.instances.iter().map(|instance| instance.reads.reads()).sum::<u64>();
    reads();
    for _ in 0..6 {
        let answer = bob.sync(0).await;
        assert_eq!((answer.get("rooms"), reads()), (None, 0));
    }
}

#[tokio::test]
async fn a_sync_that_waits_is_woken_without_a_read() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = alice.create().await;
    bob.call("POST", &format!("/join/{room}"), json!({})).await;
    for n in 0..4 {
        alice.say(&room, &n.to_string()).await;
        bob.sync(0).await;
    }
    for n in 0..4 {
        let reading = &world.instances[1].reads;
        let waiting = async {
            let answer = bob.sync_at(1, 10_000).await;
            (answer, reading.reads())
        };
        let speaking = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            reading.reads();
            // Sent by the other instance.
            let path = format!("/rooms/{room}/send/m.room.message/wake{n}");
            assert_eq!(alice.at(0, "PUT", &path, json!({"body": format!("wake{n}")})).await.0, 200);
        };
        let ((answer, reads), ()) = tokio::join!(waiting, speaking);
        assert_eq!((said(&answer, &room), reads), (vec![format!("wake{n}")], 0));
        *bob.since.lock() = Some(answer["next_batch"].as_str().unwrap().to_owned());
    }
}

#[tokio::test]
async fn an_instance_that_has_just_started_goes_on_with_every_token() {
    let mut world = World::of(2).await;
    let (token, since, room) = {
        let (alice, bob) = (world.user("alice").await, world.user("bob").await);
        let room = alice.create().await;
        bob.call("POST", &format!("/join/{room}"), json!({})).await;
        bob.sync(0).await;
        alice.say(&room, "missed").await;
        (bob.token.clone(), bob.since.lock().clone().unwrap(), room)
    };
    world.start().await;
    let path = format!("/sync?since={since}");
    let request = crate::world::Ask { method: "GET", path: &path, token: Some(&token), body: Value::Null };
    let (status, answer) = world.ask(2, request).await;
    assert_eq!((status, said(&answer, &room)), (200, vec!["missed".to_owned()]));
}

#[tokio::test]
async fn what_somebody_keeps_of_a_room_comes_with_the_room() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = alice.create().await;
    bob.sync(0).await;
    // Kept before the room is entered, and told to nobody then.
    let path = format!("/user/{}/rooms/{room}/account_data/a.b", bob.user_id);
    bob.call("PUT", &path, json!({"n": 1})).await;
    bob.sync(0).await;
    let kept = json!([{"type": "a.b", "content": {"n": 1}}]);
    for n in 0..TIMES {
        bob.call("POST", &format!("/join/{room}"), json!({})).await;
        let answer = bob.sync(0).await;
        assert_eq!(answer["rooms"]["join"][&room]["account_data"]["events"], kept, "{n}: {answer}");
        bob.call("POST", &format!("/rooms/{room}/leave"), json!({})).await;
        bob.sync(0).await;
    }
}
