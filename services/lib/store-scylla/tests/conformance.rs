//! The conformance suite on a real CQL server, which `POLITY_CQL` names (`host:port`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use polity_core::{SystemClock, SystemRandom, TenantId};
use polity_store::{
    Store,
    suite::{Backend, Sizes, Subject},
};
use polity_store_scylla::{CqlConfig, CqlStore};

struct Cql;

/// Each test has tenants of its own.
static TENANT: AtomicU64 = AtomicU64::new(0);

async fn open() -> Arc<dyn Store> {
    let server = std::env::var("POLITY_CQL").expect("POLITY_CQL names a CQL server");
    let config = CqlConfig {
        contact_points: vec![server],
        keyspace: "polity_conformance".to_owned(),
        local_datacenter: "datacenter1".to_owned(),
        replication: BTreeMap::from([("datacenter1".to_owned(), 1)]),
        credentials: None,
        tls: None,
        timeout: Duration::from_secs(10),
    };
    let mut failure = None;
    for _ in 0..10 {
        match CqlStore::open(&config, Arc::new(SystemClock::new()), &SystemRandom).await {
            Ok(store) => return store,
            Err(error) => failure = Some(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{failure:?}");
}

#[async_trait]
impl Backend for Cql {
    async fn reopen(&self) -> Arc<dyn Store> {
        open().await
    }

    async fn pass(&self, seconds: u32) {
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

async fn subject() -> Subject {
    // Partitions of an earlier run on the same server are another's.
    let run = u64::from(std::process::id()) << 32;
    let tenant = TenantId::new(run + 10_000 * TENANT.fetch_add(1, Ordering::Relaxed));
    let sizes = Sizes { rounds: 200, rows: 20_000, writers: 16, writes: 25 };
    Subject { store: open().await, backend: Arc::new(Cql), tenant, sizes }
}

mod cql {
    polity_store::store_suite!(super::super::subject());
    polity_store::durable_store_suite!(super::super::subject());
}
