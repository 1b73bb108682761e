//! The store by its kind.

use std::{fs, os::unix::fs::DirBuilderExt as _, sync::Arc, time::Duration};

use polity_core::{Clock, Random};
use polity_platform::{
    config::{Config, Cql, StoreKind},
    lifecycle::{Lifecycle, exit},
    tls,
};
use polity_store::{Observed, Store};
use polity_store_local::{LocalStore, Options};
use polity_store_scylla::{CqlConfig, CqlStore, OpenError, Schema};

use crate::{
    failure::Failure,
    wait::{Attempt, until_there},
};

/// Opens the store, and waits for one that is elsewhere; nothing when the process is to end before it is there.
pub(crate) async fn open(
    config: &Config,
    clock: &Arc<dyn Clock>,
    random: &dyn Random,
    life: &Lifecycle,
) -> Result<Option<Arc<dyn Store>>, Failure> {
    match config.store.kind {
        StoreKind::Memory => {
            let store = LocalStore::memory(Arc::clone(clock), random).map_err(Failure::software)?;
            Ok(Some(watched(store, life)))
        }
        StoreKind::Embedded => {
            make_data_dir(config)?;
            let folder = config.data_dir.join("store");
            let store = LocalStore::open(&folder, &Options::default(), Arc::clone(clock), random)?;
            Ok(Some(watched(store, life)))
        }
        StoreKind::Cql => {
            let cql = cql(&config.store.cql)?;
            let open = || async {
                CqlStore::open(&cql, Arc::clone(clock), random).await.map_err(|error| match error {
                    OpenError::Refused(refused) => Attempt::Never(Failure::new(exit::USAGE, refused)),
                    error => Attempt::later(error),
                })
            };
            let store = until_there("the store", &life.stop(), open).await?;
            Ok(store.map(|store| Observed::new(store) as Arc<dyn Store>))
        }
    }
}

/// Once an embedded store can't be written any more the process ends: the next start finds what is on disk, whole.
fn watched(store: Arc<LocalStore>, life: &Lifecycle) -> Arc<dyn Store> {
    let (watched, stop) = (Arc::clone(&store), life.stop());
    life.essential("store", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            reason = watched.failed() => tracing::error!(reason, "the store can't be written any more"),
        }
    });
    Observed::new(store)
}

/// Of this user alone: signing keys and everybody's messages are in it.
pub(crate) fn make_data_dir(config: &Config) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| Failure::new(exit::CANT_CREATE, format!("{}: {error}", config.data_dir.display())))
}

/// The same in the driver's words.
pub(crate) fn cql(config: &Cql) -> Result<CqlConfig, Failure> {
    let given = !config.tls_cert.as_os_str().is_empty();
    let own = given.then_some((config.tls_cert.as_path(), config.tls_key.as_path()));
    let tls = (!config.tls_ca.as_os_str().is_empty()).then(|| tls::client(&config.tls_ca, own)).transpose();
    let tls = tls.map_err(|error| Failure::new(exit::USAGE, format!("store.cql: {error}")))?;
    let user = (!config.username.is_empty()).then(|| config.username.clone());
    Ok(CqlConfig {
        contact_points: config.contact_points.clone(),
        keyspace: config.keyspace.clone(),
        local_datacenter: config.local_datacenter.clone(),
        replication: config.replication.clone(),
        credentials: user.map(|user| (user, config.password.expose().to_owned())),
        tls,
        schema: Schema::OWN,
        timeout: Duration::from_millis(config.timeout_ms),
    })
}
