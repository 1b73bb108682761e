//! What is to be had once is had once, whichever instances are asked at the same time.

use std::collections::BTreeSet;

use polity_store::schema;
use serde_json::json;

use crate::world::World;

const KEYS: usize = 12;

#[tokio::test]
async fn a_one_time_key_is_handed_out_once() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let keys: serde_json::Map<_, _> =
        (0..KEYS).map(|n| (format!("signed_curve25519:{n}"), json!({"key": n.to_string()}))).collect();
    let uploaded = bob.call("POST", "/keys/upload", json!({"one_time_keys": keys})).await;
    assert_eq!(uploaded["one_time_key_counts"]["signed_curve25519"], KEYS);
    assert_eq!(bob.sync(0).await["device_one_time_keys_count"]["signed_curve25519"], KEYS);
    let body = json!({"one_time_keys": {(&bob.user_id): {"D": "signed_curve25519"}}});
    let claims = (0..KEYS + 4).map(|at| alice.at(at, "POST", "/keys/claim", body.clone()));
    let claimed = futures_util::future::join_all(claims).await;
    let given = |answer: &serde_json::Value| {
        answer["one_time_keys"][&bob.user_id]["D"].as_object().map(|keys| keys.keys().next().unwrap().clone())
    };
    let given: Vec<_> = claimed.iter().filter_map(|(_, answer)| given(answer)).collect();
    assert_eq!((given.len(), given.iter().collect::<BTreeSet<_>>().len()), (KEYS, KEYS), "{claimed:?}");
    assert_eq!(bob.sync(0).await["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert_eq!(bob.sync(0).await["device_one_time_keys_count"]["signed_curve25519"], 0);
}

/// Some clients write once, and leave out for good the devices of which they got no key.
#[tokio::test]
async fn a_claim_of_which_the_store_says_nothing_is_made_again_beside_others() {
    let world = World::of(1).await;
    let (alice, others) = (world.user("alice").await, [world.user("bob").await, world.user("carol").await]);
    let keys: serde_json::Map<_, _> =
        (0..KEYS).map(|n| (format!("signed_curve25519:{n}"), json!({"key": n.to_string()}))).collect();
    for other in &others {
        other.call("POST", "/keys/upload", json!({"one_time_keys": keys})).await;
    }
    let [bob, carol] = others.each_ref().map(|other| other.user_id.as_str());
    let device = json!({"D": "signed_curve25519"});
    let body = json!({"one_time_keys": {bob: device, carol: device}});
    world.clients_store.lose(&schema::ONE_TIME_KEYS, 1);
    let claimed = &alice.call("POST", "/keys/claim", body.clone()).await["one_time_keys"];
    assert!(claimed[bob]["D"].is_object() && claimed[carol]["D"].is_object(), "{claimed}");
    // Who is given nothing at all is told why, and asks again.
    world.clients_store.lose(&schema::ONE_TIME_KEYS, 2);
    assert_eq!(alice.at(0, "POST", "/keys/claim", body.clone()).await.0, 503);
    assert_eq!(alice.at(0, "POST", "/keys/claim", body).await.0, 200);
}

#[tokio::test]
async fn a_device_is_found_though_another_key_stands_under_one_of_its_ids() {
    let world = World::of(1).await;
    let bob = world.user("bob").await;
    let upload = |key: &str| {
        json!({
            "device_keys": {"user_id": bob.user_id, "device_id": "D", "algorithms": [], "keys": {}, "signatures": {}},
            "one_time_keys": {"signed_curve25519:A": {"key": key}},
        })
    };
    let found = async || {
        let query = bob.call("POST", "/keys/query", json!({"device_keys": {(&bob.user_id): []}})).await;
        query["device_keys"][&bob.user_id]["D"].is_object()
    };
    bob.call("POST", "/keys/upload", json!({"one_time_keys": upload("one")["one_time_keys"]})).await;
    assert!(!found().await);
    assert_eq!(bob.at(0, "POST", "/keys/upload", upload("other")).await.0, 400);
    assert!(found().await);
}

#[tokio::test]
async fn messages_to_a_device_come_once_and_in_order() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    bob.sync(0).await;
    let mut got = Vec::new();
    for n in 0..8 {
        let body = json!({"messages": {(&bob.user_id): {"D": {"n": n}}}});
        let path = format!("/sendToDevice/a.b/t{n}");
        // The same twice at once, as a client's retry is.
        let send = |at: usize| alice.at(at, "PUT", &path, body.clone());
        let (first, second) = tokio::join!(send(n), send(n + 1));
        assert_eq!((first.0, second.0), (200, 200));
        let answer = bob.sync(0).await;
        let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
        got.extend(events.iter().map(|event| event["content"]["n"].as_u64().unwrap()));
        assert_eq!(got, (0..=n as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn of_two_who_register_one_name_at_two_instances_one_wins() {
    let world = World::of(2).await;
    let body = json!({"username": "same", "password": "secret", "auth": {"type": "m.login.dummy"}});
    let register = |at: usize| {
        world.ask(at, crate::world::Ask { method: "POST", path: "/register", token: None, body: body.clone() })
    };
    let mut answers = [tokio::join!(register(0), register(1))].map(|(first, second)| [first.0, second.0])[0];
    answers.sort_unstable();
    assert_eq!(answers, [200, 400]);
}
