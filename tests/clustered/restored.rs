//! `polity schema restored` on a real store: refused while anybody runs on it, and another life once nobody does.

use std::time::Duration;

use http::Method;
use polity_platform::lifecycle::exit;
use polity_tests::cluster::{Shape, Tier};
use serde_json::{Value, json};

use super::own;

/// What is hidden by a deletion it waits for, two minutes; the machine has other things to do.
const TAKES: Duration = Duration::from_secs(300);

fn keys_left(sync: &Value) -> &Value {
    &sync["device_one_time_keys_count"]["signed_curve25519"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_begins_another_life_once_nobody_runs_on_it() {
    let tiers = vec![(Tier::RoomState, 1), (Tier::ClientApi, 1)];
    let mut on = own(Shape { tiers: tiers.clone(), ..Shape::for_tests() }).await;
    let cluster = &mut on.cluster;
    let mut client = cluster.client();
    client.register("amy", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    let keys = json!({"one_time_keys": {"signed_curve25519:a": {"key": "a"}, "signed_curve25519:b": {"key": "b"}}});
    client.call(Method::POST, "/keys/upload", Some(keys)).await.expect("keys");
    let first = client.send(&room, "1", "before").await.expect("an event");
    let before = client.sync(None, 0, &json!({})).await.expect("a sync");
    assert_eq!(keys_left(&before), 2);
    let since = before["next_batch"].as_str().expect("a token").to_owned();

    let restored = ["schema", "restored"];
    let refused = cluster.operate(&restored, TAKES).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(i32::from(exit::IN_USE)), "{said}");
    assert!(said.contains("processes run on this store"), "{said}");
    let second = client.send(&room, "2", "nothing has happened").await.expect("an event");
    let same = client.sync(Some(&since), 0, &json!({})).await.expect("a sync");
    assert_eq!(same["rooms"]["join"][&room]["timeline"]["events"][0]["event_id"], *second, "the token holds");

    // What they had in use is left to whoever comes.
    tiers.iter().for_each(|(tier, _)| cluster.kill(*tier, 1));
    let output = cluster.operate(&restored, TAKES).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("the store is in a new life"), "{said}");
    for (tier, _) in tiers {
        cluster.restart(tier, 1).await;
    }
    cluster.behind_the_proxy().await;
    let after = client.sync(Some(&since), 0, &json!({})).await.expect("a sync with the token of the life before");
    let timeline = &after["rooms"]["join"][&room]["timeline"];
    let told = timeline["events"].as_array().cloned().unwrap_or_default();
    for event in [&first, &second] {
        assert!(told.iter().any(|told| told["event_id"] == **event), "all is told anew: {after}");
    }
    assert_eq!(keys_left(&after), 0, "keys of the life before may have been given");
    client.send(&room, "3", "after").await.expect("an event");
    cluster.assert_no_panic();
}
