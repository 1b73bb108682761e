//! Two processes that were given one name.

use std::time::{Duration, Instant};

use http::Method;
use polity_tests::cluster::{Shape, Tier};

use super::own;

/// Each would close the other as its earlier run. So the second one refuses to start beside the first, and says why; but it takes over from
/// one that doesn't answer, which then ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_one_name_is_refused_while_the_first_answers() {
    let tiers = vec![(Tier::RoomState, 1), (Tier::ClientApi, 1)];
    let mut on = own(Shape { tiers, ..Shape::for_tests() }).await;
    let cluster = &mut on.cluster;
    let (first, second) = ((Tier::RoomState, 1), (Tier::RoomState, 2));
    let name = [("CLUSTER__NODE_NAME", "room-state-1")];
    cluster.launch_with(second.0, second.1, &name);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = cluster.at(second.0, second.1).ended() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on under another one's name");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status.code(), Some(64));
    let said = cluster.instance(second.0, second.1).said(cluster.folder());
    assert!(said.contains("answers as room-state@room-state-1, too") && said.contains("cluster.node_name"), "{said}");
    assert!(cluster.instance(first.0, first.1).is_ready().await, "the first one goes on");
    let mut client = cluster.client();
    client.register("named", "a long password").await.expect("an account");
    let room = client.create_room(serde_json::json!({})).await.expect("a room");

    // One that hangs is dead for its successor.
    cluster.instance(first.0, first.1).signal("STOP");
    cluster.launch_with(second.0, second.1, &name);
    cluster.ready(second.0, second.1).await;
    client.send(&room, "after", "after").await.expect("a send");
    cluster.instance(first.0, first.1).signal("CONT");
    let began = Instant::now();
    while cluster.at(first.0, first.1).ended().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on although it was closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = cluster.instance(first.0, first.1).said(cluster.folder());
    assert!(said.contains("was closed by another one"), "{said}");
    client.raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
    client.send(&room, "last", "last").await.expect("a send");
}
