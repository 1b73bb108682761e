//! Encrypted rooms: a waiting sync tells whose devices are to be looked up.

use std::time::Duration;

use http::Method;
use polity_tests::{Client, Sandbox, escape};
use serde_json::{Value, json};

/// Syncs on until an answer tells of devices, and returns that answer.
async fn devices_told(client: &Client, mut since: String) -> Value {
    for _ in 0..10 {
        let answer = client.sync(Some(&since), 5_000, &json!({})).await.expect("a sync");
        if answer["device_lists"]["changed"].as_array().is_some_and(|users| !users.is_empty()) {
            return answer;
        }
        since = answer["next_batch"].as_str().expect("a token").to_owned();
    }
    panic!("no devices were told of");
}

#[tokio::test]
async fn a_waiting_sync_is_told_the_devices_of_who_joins_an_encrypted_room() {
    let sandbox = Sandbox::start(&[]).await;
    let (mut host, mut guest) = (sandbox.client(), sandbox.client());
    host.register("host", "correct horse battery staple").await.expect("an account");
    guest.register("guest", "correct horse battery staple").await.expect("an account");
    let encryption = json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
    let room = json!({"preset": "public_chat", "initial_state": [encryption]});
    let room_id = host.create_room(room).await.expect("a room");

    let first = host.sync(None, 0, &json!({})).await.expect("a sync");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    // A message goes ahead, so that the join comes to a room that is watched already, by the shortest way.
    let talk = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.send(&room_id, "1", "here I am").await.expect("a message");
        tokio::time::sleep(Duration::from_millis(200)).await;
        guest.call(Method::POST, &format!("/join/{}", escape(&room_id)), Some(json!({}))).await.expect("a join");
    };
    let (answer, ()) = tokio::join!(devices_told(&host, since.clone()), talk);
    assert_eq!(answer["device_lists"]["changed"], json!([guest.user_id]), "{answer}");

    let to = answer["next_batch"].as_str().expect("a token");
    let path = format!("/keys/changes?from={since}&to={to}");
    let told = host.call(Method::GET, &path, None).await.expect("an answer");
    assert_eq!(told, json!({"changed": [guest.user_id], "left": []}));
    let endless = format!("/keys/changes?from={since}");
    let missing = host.call(Method::GET, &endless, None).await.expect_err("no end");
    assert_eq!(missing.errcode(), Some("M_MISSING_PARAM"));
    let foreign = guest.call(Method::GET, &path, None).await.expect_err("another's tokens");
    assert!(foreign.errcode().is_some(), "{foreign}");
}

#[tokio::test]
async fn a_stored_filter_filters_as_one_that_stands_in_the_request() {
    let sandbox = Sandbox::start(&[]).await;
    let mut host = sandbox.client();
    host.register("host", "correct horse battery staple").await.expect("an account");
    let filter = json!({"account_data": {"types": ["a"]}, "room": {"rooms": []}});
    let path = format!("/user/{}/filter", escape(&host.user_id));
    let stored = host.call(Method::POST, &path, Some(filter.clone())).await.expect("a filter");
    for kind in ["a", "b"] {
        let path = format!("/user/{}/account_data/{kind}", escape(&host.user_id));
        host.call(Method::PUT, &path, Some(json!({}))).await.expect("account data");
    }
    let whole = host.sync(None, 0, &filter).await.expect("a sync");
    assert_eq!(whole["account_data"], json!({"events": [{"type": "a", "content": {}}]}));
    let id = stored["filter_id"].as_str().expect("an id");
    for _ in 0..2 {
        let answer = host.call(Method::GET, &format!("/sync?filter={}", escape(id)), None).await.expect("a sync");
        assert_eq!(answer["account_data"], whole["account_data"]);
    }
    assert!(host.call(Method::GET, "/sync?filter=unknown", None).await.is_err());
}
