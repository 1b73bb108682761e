//! The store of a cluster, looked into past its processes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use polity_core::{SystemClock, SystemRandom};
use polity_store::{Bounds, Consistency, Store, schema, values_of};
use polity_store_scylla::{CqlConfig, CqlStore, Schema};
use polity_tests::{
    Stopped,
    cluster::{Cluster, Tier},
};

/// Within so long it is finished what processes left that were killed last: they are watched for a while before.
const SEEN_TO: Duration = Duration::from_secs(120);
/// A clean end may take so long.
const LEAVE: Duration = Duration::from_secs(30);
/// The partition of all processes, and what their guards say of one of whom nothing is left.
const CLUSTER: &str = "polity";
const DRAINED: i64 = 2;
/// Processes that a test ever starts.
const PROCESSES: usize = 1000;

/// Waits until nothing is left of who died, ends everybody in order, and gives what they leave.
pub(super) async fn at_rest(cluster: &mut Cluster) -> Stopped {
    let (store, began) = (open(cluster).await, Instant::now());
    let mut names: Vec<(Tier, usize)> = cluster.running().map(|instance| (instance.tier, instance.number)).collect();
    loop {
        let left = unfinished(&*store).await;
        if left <= names.len() {
            break;
        }
        assert!(began.elapsed() < SEEN_TO, "{left} processes aren't finished, {} run", names.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    names.sort_by_key(|(tier, _)| *tier == Tier::RoomState);
    for (tier, number) in names {
        assert!(cluster.leave(tier, number, LEAVE).await, "{tier} {number} didn't end by itself");
    }
    assert_eq!(unfinished(&*store).await, 0, "all have left in order");
    Stopped::at(store)
}

async fn open(cluster: &Cluster) -> Arc<dyn Store> {
    let datacenter = "datacenter1".to_owned();
    let config = CqlConfig {
        contact_points: cluster.cassandra.contact_points(),
        keyspace: "polity".to_owned(),
        replication: BTreeMap::from([(datacenter.clone(), 1)]),
        local_datacenter: datacenter,
        credentials: None,
        tls: None,
        schema: Schema::OWN,
        timeout: Duration::from_secs(10),
    };
    CqlStore::open(&config, Arc::new(SystemClock::new()), &SystemRandom).await.expect("the cluster's store")
}

/// Processes that run, or that left something.
async fn unfinished(store: &dyn Store) -> usize {
    let all = store.scan(&schema::MEMBERS, values_of![CLUSTER], Bounds::all(), PROCESSES, Consistency::Serial);
    let all = all.await.expect("the processes").rows;
    all.iter().filter(|row| row.guards.is_some_and(|(state, _)| state < DRAINED)).count()
}
