//! What a request costs the store and the bus, counted over all processes.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use polity_tests::cluster::{Cluster, Instance};
use serde_json::json;

use super::shared;

/// What goes on whether or not anybody asks for anything: who is there, and whether the store is.
const IN_THE_BACKGROUND: [&str; 3] = ["members", "beats", "meta"];

/// An instance's metrics as text.
pub(crate) async fn metrics(instance: &Instance) -> String {
    let (_, text) = instance.operator().raw(Method::GET, "/metrics", None).await.expect("the metrics");
    String::from_utf8(text.to_vec()).expect("UTF-8")
}

/// The sum of a metric's series that mention something.
pub(crate) fn sum(metrics: &str, name: &str, mention: &str) -> f64 {
    let series = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(mention));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Operations of the store by table and operation, over all processes; and messages on the bus, as a table of its own.
async fn operations(cluster: &Cluster) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for instance in cluster.running() {
        let text = metrics(instance).await;
        for line in text.lines().filter(|line| line.starts_with("polity_store_operations_total{")) {
            let label = |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            let (Some(table), Some(operation)) = (label("table"), label("operation")) else { continue };
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or_default();
            if !IN_THE_BACKGROUND.contains(&table) {
                *counts.entry(format!("{operation} {table}")).or_default() += value as i64;
            }
        }
    }
    counts
}

/// What `done` adds to the counts.
async fn counted(cluster: &Cluster, done: impl Future<Output = ()>) -> BTreeMap<String, i64> {
    let before = operations(cluster).await;
    done.await;
    // Projections follow.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut after = operations(cluster).await;
    after.iter_mut().for_each(|(name, count)| *count -= before.get(name).unwrap_or(&0));
    after.retain(|_, count| *count != 0);
    after
}

fn of(counts: &BTreeMap<String, i64>, name: &str) -> i64 {
    counts.get(name).copied().unwrap_or_default()
}

fn reads(counts: &BTreeMap<String, i64>) -> i64 {
    let reads = counts.iter().filter(|(name, _)| name.starts_with("get ") || name.starts_with("scan "));
    reads.map(|(_, count)| count).sum()
}

/// A send into a hot room: one point read for old transactions, one conditional append, its projections. An idle waiting sync: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_costs_what_the_design_says() {
    const SENDS: i64 = 100;
    let on = shared().await;
    let cluster = on.cluster;
    let mut client = cluster.client();
    client.register("counted", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    for n in 0..10 {
        client.send(&room, &format!("warm{n}"), "warm").await.expect("a send");
    }
    // A process that is late for a moment makes others read: of three rounds one is undisturbed.
    let mut sends = BTreeMap::new();
    for round in 0..3 {
        sends = counted(cluster, async {
            for n in 0..SENDS {
                client.send(&room, &format!("t{round}-{n}"), "text").await.expect("a send");
            }
        })
        .await;
        println!("{SENDS} sends: {sends:?}");
        if reads(&sends) == SENDS {
            break;
        }
    }
    assert_eq!(of(&sends, "cas log"), SENDS, "one append each: {sends:?}");
    assert_eq!(of(&sends, "get transactions"), SENDS, "one look for old transactions each: {sends:?}");
    assert_eq!(reads(&sends), SENDS, "and no other read: {sends:?}");

    let together = counted(cluster, async {
        let sends = (0..SENDS).map(|n| {
            let (client, room) = (client.clone(), room.clone());
            async move { client.send(&room, &format!("u{n}"), "text").await.expect("a send") }
        });
        futures_util::future::join_all(sends).await;
    })
    .await;
    println!("{SENDS} sends at once: {together:?}");
    assert!(of(&together, "cas log") <= SENDS / 2, "appends are shared under load: {together:?}");

    let first = client.sync(None, 0, &json!({})).await.expect("a sync");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    client.sync(Some(&since), 0, &json!({})).await.expect("a sync");
    let idle = counted(cluster, async {
        let answer = client.sync(Some(&since), 3_000, &json!({})).await.expect("a sync");
        assert!(answer["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty), "{answer}");
    })
    .await;
    println!("an idle sync: {idle:?}");
    assert!(idle.values().sum::<i64>() <= 8, "waiting costs nothing: {idle:?}");
}
