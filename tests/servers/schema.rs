//! The schema of a store that several processes open at once, for the first time.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use polity_core::{SystemClock, SystemRandom};
use polity_store::Store;
use polity_store_scylla::{Consistencies, CqlConfig, CqlStore, OpenError, Refused, Schema, SchemaStatus};

use crate::cql::{config, contact_points};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_first_makes_the_schema_and_all_agree() {
    let config = config(contact_points().await, format!("polity_schema_{}", std::process::id()), 1);
    let elsewhere = CqlConfig { replication: BTreeMap::from([("elsewhere".to_owned(), 1)]), ..config.clone() };
    let open = async |config: &CqlConfig| CqlStore::open(config, Arc::new(SystemClock::new()), &SystemRandom).await;
    let refused = open(&elsewhere).await.err();
    let refused_for = |name: &str| matches!(&refused, Some(OpenError::Refused(Refused::Datacenter(n, _))) if n == name);
    assert!(refused_for("elsewhere"), "{refused:?}");

    let before = SchemaStatus::read(&config).await.expect("a server that answers");
    assert_eq!((before.stored, before.levels), (None, None));
    assert!(before.missing.contains(&"table log".to_owned()), "{before:?}");

    let stores: Vec<_> = join_all((0..5).map(|_| open(&config))).await;
    let incarnations: Vec<_> = stores.into_iter().map(|store| store.expect("a store").incarnation()).collect();
    assert!(incarnations.windows(2).all(|pair| pair[0] == pair[1]), "{incarnations:?}");

    let after = SchemaStatus::read(&config).await.expect("a server that answers");
    assert_eq!((after.stored, after.levels), (Some(Schema::OWN.version), Some(Consistencies::OneDatacenter)));
    assert_eq!(after.missing, [""; 0]);

    // A keyspace that is there counts, not what the file would have made of it.
    let wrong = CqlConfig { local_datacenter: "elsewhere".to_owned(), ..config };
    let refused = open(&wrong).await.err();
    assert!(matches!(refused, Some(OpenError::Refused(Refused::NoCopies(..)))), "{refused:?}");
}
