//! What scenarios begin with: a store in which users and rooms are already. A calm cluster makes them, once, and leaves in order; each
//! scenario gets a copy. In one of the two stores that there are a room's bucket is nearly full.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use polity_core::SystemClock;
use polity_store_local::LocalStore;

use super::{
    NEXT_DOOR, SERVER, chance::Chance, cluster::Cluster, run::simulated, scenario::Scenario, way::SimWay,
    weather::Weather,
};
use crate::{Client, Way, load::Residents};

/// Rows of the long room: the log's first bucket takes a few more.
const ROWS: usize = 1_020;
/// So long before all scenarios it was.
const EARLIER_MS: i64 = 3_600_000;

/// See the module.
pub(super) struct Beginning {
    store: Arc<LocalStore>,
    residents: Residents,
}

/// Where nobody is.
struct Nowhere;

#[async_trait]
impl Way for Nowhere {
    async fn exchange(&self, _: Request<Bytes>) -> Result<Response<Bytes>, String> {
        Err("nobody is there".to_owned())
    }

    fn afresh(&self) -> Arc<dyn Way> {
        Arc::new(Self)
    }
}

impl Beginning {
    /// The same for all scenarios, or for all with a long room.
    pub(super) fn get(long: bool) -> &'static Self {
        static MADE: [OnceLock<Beginning>; 2] = [OnceLock::new(), OnceLock::new()];
        MADE[usize::from(long)].get_or_init(|| simulated(Self::make(long)))
    }

    async fn make(long: bool) -> Self {
        let calm = Scenario::calm();
        // Nothing in it goes by the time but rows that are kept for hours.
        let clock = Arc::new(SystemClock::new());
        let store = LocalStore::memory(clock, &Chance::of(calm.seed, "store")).expect("a store in memory");
        let cluster = Cluster::start(&calm, (Arc::clone(&store) as _, Arc::new(Weather::untold())), -EARLIER_MS).await;
        let way = Arc::new(SimWay::new(Arc::clone(&cluster), calm.seed));
        let client = Client::over(way, "");
        let residents = Residents::settle(&client.clone().for_host(SERVER)).await;
        let residents = residents.and_a_neighbour(&client.for_host(NEXT_DOOR)).await;
        let residents = if long { residents.and_a_long_room(ROWS).await } else { residents };
        cluster.end().await;
        let nowhere: Arc<dyn Way> = Arc::new(Nowhere);
        Self { store, residents: residents.at(&nowhere) }
    }

    /// A copy of the store.
    pub(super) fn store(&self) -> Arc<LocalStore> {
        self.store.copy().expect("it is in memory")
    }

    /// Its users and rooms, for who goes this way.
    pub(super) fn residents(&self, way: &Arc<dyn Way>) -> Residents {
        self.residents.at(way)
    }
}
