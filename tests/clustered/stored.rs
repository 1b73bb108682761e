//! The store of a cluster, looked into past its processes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use polity_core::{SystemClock, SystemRandom};
use polity_log::{Member, MemberState, listed};
use polity_store::{Consistency, Store};
use polity_store_scylla::{CqlConfig, CqlStore, Schema};
use polity_tests::{
    Stopped,
    cluster::{Cluster, Tier},
};

/// Within so long it is finished what processes left that were killed last: they are watched for a while before.
const SEEN_TO: Duration = Duration::from_secs(120);
/// A clean end may take so long.
pub(super) const LEAVE: Duration = Duration::from_secs(30);

/// Waits until nothing is left of who died, ends everybody in order, and gives what they leave.
pub(super) async fn at_rest(cluster: &mut Cluster) -> Stopped {
    let (store, began) = (open(cluster).await, Instant::now());
    let mut names: Vec<(Tier, usize)> = cluster.running().map(|instance| (instance.tier, instance.number)).collect();
    loop {
        let left = unfinished(&*store).await;
        if left.len() <= names.len() {
            break;
        }
        assert!(began.elapsed() < SEEN_TO, "{} run, and of these something is left: {left:?}", names.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    names.sort_by_key(|(tier, _)| *tier == Tier::RoomState);
    for (tier, number) in names {
        assert!(cluster.leave(tier, number, LEAVE).await, "{tier} {number} didn't end by itself");
    }
    let left = unfinished(&*store).await;
    assert!(left.is_empty(), "all have left in order, and something is left of {left:?}");
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
async fn unfinished(store: &dyn Store) -> Vec<Member> {
    let mut members = listed(store, Consistency::Serial).await.expect("the processes").members;
    members.retain(|member| member.state != MemberState::Drained);
    members
}
