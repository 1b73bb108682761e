//! What the processes stand on is gone for a while.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use polity_tests::{
    cluster::{Cluster, Shape},
    load::Load,
    servers::CassandraOptions,
};
use serde_json::json;

use super::{given, own, seed};

/// NATS is gone for so long: a minute, or what `POLITY_OUTAGE_S` says.
fn outage() -> Duration {
    Duration::from_secs(given("POLITY_OUTAGE_S").unwrap_or(60))
}

/// Without the bus everything goes on, later at worst; nobody is closed.
#[tokio::test(flavor = "multi_thread")]
async fn sends_and_syncs_go_on_without_the_bus() {
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut load = Load::start(&cluster.url(), seed()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pids: Vec<u32> = cluster.running().filter_map(|instance| Some(instance.process()?.pid())).collect();
    cluster.nats.kill();
    load.note("NATS is gone".to_owned());
    let before = load.acknowledged().await;
    tokio::time::sleep(outage()).await;
    let meanwhile = load.acknowledged().await - before;
    assert!(meanwhile as f64 > outage().as_secs_f64() * 5.0, "{meanwhile} events without the bus in {:?}", outage());
    late_at_worst(cluster).await;
    cluster.nats.restart().await;
    load.note("NATS is back".to_owned());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!load.has_a_fault(), "somebody found a fault");
    load.finish().await;
    let alive: Vec<u32> = cluster.running().filter_map(|instance| Some(instance.process()?.pid())).collect();
    assert_eq!(pids, alive, "a process was ended");
    cluster.assert_no_panic();
}

/// Who waits in a sync is told of a message without the bus, too, in a moment.
async fn late_at_worst(cluster: &Cluster) {
    let mut client = cluster.client();
    client.register("patient", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    let first = client.sync(None, 0, &json!({})).await.expect("a sync");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    let waiting = {
        let client = client.clone();
        polity_core::tasks::spawn(async move { client.sync(Some(&since), 15_000, &json!({})).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let event_id = client.send(&room, "late", "late").await.expect("a send");
    let told = waiting.await.expect("a task").expect("a sync");
    let events = told["rooms"]["join"][&room]["timeline"]["events"].as_array().cloned().unwrap_or_default();
    assert!(events.iter().any(|event| event["event_id"] == json!(event_id)), "the sync ended without it: {told}");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// Without the store requests are refused as the specification says, memory stays flat, and all goes on by itself when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_without_the_store_and_served_again_with_it() {
    let cassandra = CassandraOptions { durable: true, ..CassandraOptions::default() };
    let mut on = own(Shape { cassandra, ..Shape::for_tests() }).await;
    let cluster = &mut on.cluster;
    let mut client = cluster.client();
    client.register("sender", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    let before = client.send(&room, "before", "before").await.expect("a send");
    let pids: Vec<u32> = cluster.running().filter_map(|instance| Some(instance.process()?.pid())).collect();
    // It refuses connections, or takes them and doesn't answer.
    for hangs in [false, true] {
        let memory = resident(cluster);
        if hangs {
            cluster.cassandra.signal(0, "STOP");
        } else {
            cluster.cassandra.kill(0);
        }
        refused_without_the_store(&client, &room).await;
        let grown = resident(cluster).saturating_sub(memory);
        assert!(grown < 64 << 20, "{} MiB more without the store", grown >> 20);
        if hangs {
            cluster.cassandra.signal(0, "CONT");
        } else {
            cluster.cassandra.restart(0).await;
        }
        let back = Instant::now();
        while let Err(failure) = client.send(&room, &format!("after-{hangs}"), "after").await {
            assert!(back.elapsed() < Duration::from_secs(30), "no recovery: {failure}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("served again {:?} after the store was back; {} MiB more in between", back.elapsed(), grown >> 20);
    }
    let path = format!("/rooms/{}/event/{}", polity_tests::escape(&room), polity_tests::escape(&before));
    client.call(Method::GET, &path, None).await.expect("what was acknowledged is there");
    let alive: Vec<u32> = cluster.running().filter_map(|instance| Some(instance.process()?.pid())).collect();
    assert_eq!(pids, alive, "a process was ended");
    cluster.assert_no_panic();
}

/// Sends for a while, many at once; enough are refused as they should be.
async fn refused_without_the_store(client: &polity_tests::Client, room: &str) {
    let (mut refused, began) = (0_u32, Instant::now());
    while began.elapsed() < Duration::from_secs(15) {
        let sends = (0..16).map(|n| {
            let (client, room) = (client.clone(), room.to_owned());
            async move { refused_send(&client, &room, n).await }
        });
        refused += futures_util::future::join_all(sends).await.into_iter().map(u32::from).sum::<u32>();
    }
    // Those that come later are refused by the proxy, as soon as no instance says that it is ready.
    assert!(refused >= 16, "only {refused} requests were answered with 503 and M_UNKNOWN");
}

/// Whether it was refused with 503 and a body as the specification has it. (The proxy answers without one when no instance is ready.)
async fn refused_send(client: &polity_tests::Client, room: &str, n: u32) -> bool {
    let path = format!("/rooms/{}/send/m.room.message/without{n}", polity_tests::escape(room));
    let body = json!({"msgtype": "m.text", "body": "without"});
    match client.raw(Method::PUT, &path, Some(body.to_string().into())).await {
        Ok((StatusCode::SERVICE_UNAVAILABLE, body)) => {
            serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|body| body["errcode"].is_string())
        }
        Ok((status, body)) => {
            assert!(status.is_server_error(), "{status} without the store: {body:?}");
            false
        }
        Err(_) => false,
    }
}

fn resident(cluster: &Cluster) -> u64 {
    cluster.running().filter_map(|instance| Some(instance.process()?.resident_bytes())).sum()
}
