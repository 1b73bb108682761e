//! The conformance suite on one node: Apache Cassandra, or whatever `POLITY_CQL` names (`host:port`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use polity_core::{LogId, Random, SystemClock, SystemRandom, TenantId};
use polity_store::{
    Store,
    suite::{Backend, Sizes, Subject},
};
use polity_store_scylla::{CqlConfig, CqlStore, Schema};
use polity_tests::servers::{Cassandra, CassandraOptions};
use tokio::sync::OnceCell;

/// Each test has tenants of its own.
static TENANT: AtomicU64 = AtomicU64::new(0);
/// Kept until the process ends, and then ended with it.
static SERVER: OnceCell<Cassandra> = OnceCell::const_new();

pub(crate) async fn contact_points() -> Vec<String> {
    if let Ok(server) = std::env::var("POLITY_CQL") {
        return vec![server];
    }
    let start = async || Cassandra::start(&CassandraOptions::default()).await;
    SERVER.get_or_init(start).await.contact_points()
}

/// How a keyspace at these nodes is reached.
pub(crate) fn config(contact_points: Vec<String>, keyspace: String, replicas: u32) -> CqlConfig {
    let datacenter = std::env::var("POLITY_CQL_DATACENTER").unwrap_or_else(|_| "datacenter1".to_owned());
    CqlConfig {
        contact_points,
        keyspace,
        local_datacenter: datacenter.clone(),
        replication: BTreeMap::from([(datacenter, replicas)]),
        credentials: None,
        tls: None,
        schema: Schema::OWN,
        timeout: Duration::from_secs(10),
    }
}

/// The store at these nodes, as soon as they are there.
pub(crate) async fn open(contact_points: Vec<String>, replicas: u32, timeout: Duration) -> Arc<dyn Store> {
    let config = CqlConfig { timeout, ..config(contact_points, format!("polity_conformance_{replicas}"), replicas) };
    let mut failure = None;
    for _ in 0..60 {
        match CqlStore::open(&config, Arc::new(SystemClock::new()), &SystemRandom).await {
            Ok(store) => return store,
            Err(error) => failure = Some(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{failure:?}");
}

/// How the suite's functions open a store again.
pub(crate) struct Cql {
    pub(crate) contact_points: Vec<String>,
    pub(crate) replicas: u32,
}

#[async_trait]
impl Backend for Cql {
    async fn reopen(&self) -> Arc<dyn Store> {
        open(self.contact_points.clone(), self.replicas, Duration::from_secs(10)).await
    }

    async fn pass(&self, seconds: u32) {
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

/// The id of a log that nobody else has.
pub(crate) fn log_id() -> LogId {
    LogId::new((&SystemRandom as &dyn Random).bytes())
}

/// A tenant that no test before had. (Partitions of an earlier run on the same server are another's.)
pub(crate) fn tenant() -> TenantId {
    let run = u64::from(std::process::id()) << 32;
    TenantId::new(run + 10_000 * TENANT.fetch_add(1, Ordering::Relaxed))
}

async fn subject() -> Subject {
    let backend = Cql { contact_points: contact_points().await, replicas: 1 };
    let sizes = Sizes { rounds: 200, rows: 20_000, writers: 16, writes: 25 };
    Subject { store: backend.reopen().await, backend: Arc::new(backend), tenant: tenant(), sizes }
}

polity_store::store_suite!(super::subject());
polity_store::durable_store_suite!(super::subject());
