//! What a request costs the store and the bus, counted over all processes.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use polity_tests::{
    Client,
    cluster::{Cluster, Instance},
};
use serde_json::json;

use super::shared;

/// What goes on whether or not anybody asks for anything: who is there, and whether the store is.
const TABLES_IN_THE_BACKGROUND: [&str; 3] = ["members", "beats", "meta"];
const MESSAGES_IN_THE_BACKGROUND: [&str; 2] = ["heartbeat", "digest"];
/// What makes others read more.
const DISTURBED: [&str; 4] = [
    "polity_flush_silent_total",
    "polity_heads_forgotten_total",
    "polity_log_lost_appends_total",
    "polity_log_fences_total",
];
/// How often it is tried to count undisturbed.
const ROUNDS: usize = 10;
/// Syncs that are woken, at one instance and at the other.
const WAKES: usize = 4;

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

/// What was done so far, by what it was: `cas log` is an operation of the store on a table, `bus room` a message about a room.
/// Over all processes, without what goes on in the background.
async fn operations(cluster: &Cluster) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for instance in cluster.running() {
        for line in metrics(instance).await.lines() {
            let label = |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            let store = line.starts_with("polity_store_operations_total{");
            let bus = line.starts_with("polity_bus_messages_published_total{");
            let name = match (label("table"), label("operation"), label("kind")) {
                (Some(table), Some(operation), _) if store && !TABLES_IN_THE_BACKGROUND.contains(&table) => {
                    format!("{operation} {table}")
                }
                (_, _, Some(kind)) if bus && !MESSAGES_IN_THE_BACKGROUND.contains(&kind) => format!("bus {kind}"),
                _ => continue,
            };
            *counts.entry(name).or_default() += value(line) as i64;
        }
    }
    counts
}

/// How often a process was silent or gone, or an append was lost: others then read what they would have known.
async fn disturbances(cluster: &Cluster) -> f64 {
    let mut sum = 0.0;
    for instance in cluster.running() {
        let text = metrics(instance).await;
        let lines = text.lines().filter(|line| DISTURBED.iter().any(|name| line.starts_with(name)));
        sum += lines.map(value).sum::<f64>();
    }
    sum
}

fn value(line: &str) -> f64 {
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// What `done` adds to the counts.
async fn counted_once(cluster: &Cluster, done: impl Future<Output = ()>) -> BTreeMap<String, i64> {
    let before = operations(cluster).await;
    done.await;
    // Projections follow.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut after = operations(cluster).await;
    after.iter_mut().for_each(|(name, count)| *count -= before.get(name).unwrap_or(&0));
    after.retain(|_, count| *count != 0);
    after
}

/// Until nothing is left of what the tests before have begun: a profile on its way into rooms, what a client has left.
///
/// # Panics
/// When something is always done, though nobody asks for anything.
async fn at_rest(cluster: &Cluster) {
    let mut counts = BTreeMap::new();
    for _ in 0..ROUNDS {
        counts = counted_once(cluster, tokio::time::sleep(Duration::from_secs(1))).await;
        if counts.is_empty() {
            return;
        }
    }
    panic!("something is always done: {counts:?}");
}

/// The same while nothing disturbs it; `done` is told how often it was tried.
///
/// # Panics
/// When it is always disturbed.
async fn counted(cluster: &Cluster, what: &str, mut done: impl AsyncFnMut(usize)) -> BTreeMap<String, i64> {
    for round in 0..ROUNDS {
        at_rest(cluster).await;
        let disturbed = disturbances(cluster).await;
        let counts = counted_once(cluster, done(round)).await;
        if disturbances(cluster).await <= disturbed {
            return counts;
        }
    }
    panic!("{what}: a process was silent in each of {ROUNDS} rounds");
}

fn of(counts: &BTreeMap<String, i64>, name: &str) -> i64 {
    counts.get(name).copied().unwrap_or_default()
}

/// Exactly this was done, but for the note up to where projections are written, which many groups share.
fn assert_counts(counts: &BTreeMap<String, i64>, expected: &[(&str, i64)]) {
    let mut rest = counts.clone();
    rest.remove("put projected");
    let expected = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(rest, expected);
}

/// Design, section 12. A send into a hot room: one point read for old transactions, one conditional append, its projections in one
/// write, one message whatever the number of members. Waking a sync that waits: nothing. One that waits: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_costs_what_the_design_says() {
    const SENDS: i64 = 100;
    let on = shared().await;
    let cluster = on.cluster;
    let mut client = cluster.client();
    client.register("counted", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    // Whoever made the room leaves it to the process that is asked for it, once that was so for a second.
    for n in 0..30 {
        client.send(&room, &format!("warm{n}"), "warm").await.expect("a send");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sends = counted(cluster, "100 sends", async |round| {
        for n in 0..SENDS {
            client.send(&room, &format!("t{round}-{n}"), "text").await.expect("a send");
        }
    });
    let each = ["cas log", "get transactions", "put events", "bus room"].map(|name| (name, SENDS));
    assert_counts(&sends.await, &each);

    let together = counted(cluster, "100 sends at once", async |round| {
        let sends = (0..SENDS).map(|n| {
            let (client, room) = (client.clone(), room.clone());
            async move { client.send(&room, &format!("u{round}-{n}"), "text").await.expect("a send") }
        });
        futures_util::future::join_all(sends).await;
    });
    let together = together.await;
    let appends = of(&together, "cas log");
    assert!(appends <= SENDS / 2, "appends are shared under load: {together:?}");
    let shared = ["cas log", "put events", "bus room"].map(|name| (name, appends));
    assert_counts(&together, &[&shared[..], &[("get transactions", SENDS)]].concat());

    waiting_costs_nothing(cluster, &client, &room).await;
}

async fn waiting_costs_nothing(cluster: &Cluster, client: &Client, room: &str) {
    let everything = json!({});
    // Twice from the beginning, so that each instance has read what it reads once. An odd number of them now and then: who waits is at
    // another one then.
    let caught_up = async |round: usize| {
        client.sync(None, 0, &everything).await.expect("a sync");
        let mut since: Option<String> = None;
        for _ in 0..5 + round % 2 {
            let answer = client.sync(since.as_deref(), 0, &everything).await.expect("a sync");
            since = answer["next_batch"].as_str().map(str::to_owned);
        }
        since
    };
    let mut undisturbed = 0;
    for round in 0..ROUNDS {
        let since = caught_up(round).await;
        let waiting = client.sync(since.as_deref(), 30_000, &everything);
        let news = async {
            // It has arrived, and waits.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let disturbed = disturbances(cluster).await;
            let idle = counted_once(cluster, tokio::time::sleep(Duration::from_secs(3))).await;
            let woken = counted_once(cluster, async {
                client.send(room, &format!("w{round}"), "news").await.expect("a send");
            });
            (idle, woken.await, disturbances(cluster).await > disturbed)
        };
        let (answer, (idle, woken, disturbed)) = tokio::join!(waiting, news);
        let rooms = answer.expect("a sync")["rooms"]["join"].as_object().map(serde_json::Map::len);
        assert_eq!(rooms, Some(1), "it was woken by the message");
        if !disturbed {
            assert_counts(&idle, &[]);
            assert_counts(&woken, &["cas log", "get transactions", "put events", "bus room"].map(|name| (name, 1)));
            undisturbed += 1;
        }
        if undisturbed == WAKES {
            return;
        }
    }
    panic!("a process was silent in all but {undisturbed} of {ROUNDS} rounds");
}
