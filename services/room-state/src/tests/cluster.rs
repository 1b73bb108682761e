//! Several processes on one store: who writes a room, and what becomes of it when that one hangs, dies or leaves.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_cluster::{ClusterService, Forward, Live, Member, Peers, Watch, digest::Journal, kind};
use polity_core::IncarnationId;
use polity_log::{Head, Recover, recover};
use polity_proto::{cluster::cluster_server::ClusterServer, remote, with_deadline};
use polity_store::{Bounds, Cas, Change, Condition, Durability, Page, Row, StoreError, Table, Values, Write};
use tower::{ServiceExt, service_fn};

use super::*;

mod handed;
mod hung;

const WELL: u8 = 0;
const HUNG: u8 = 1;
const DEAD: u8 = 2;

/// A process's state, and its store: when it hangs, both do.
struct Fate {
    store: Arc<dyn Store>,
    state: AtomicU8,
}

impl Fate {
    fn is(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    async fn goes_on(&self) {
        while self.state.load(Ordering::SeqCst) != WELL {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Store for Fate {
    fn incarnation(&self) -> IncarnationId {
        self.store.incarnation()
    }

    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.goes_on().await;
        self.store.cas(table, partition, condition, changes).await
    }

    async fn put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.goes_on().await;
        self.store.put(writes, durability).await
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.goes_on().await;
        self.store.get(table, partition, key, consistency).await
    }

    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.goes_on().await;
        self.store.scan(table, partition, bounds, limit, consistency).await
    }

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        self.goes_on().await;
        self.store.drop_partition(table, partition).await
    }
}

/// A process of the cluster, and the way to it.
struct Process {
    member: Member,
    fate: Arc<Fate>,
    registry: Arc<Registry>,
    service: Service,
    ways: Ways,
    world: World,
}

type Ways = Arc<Mutex<HashMap<String, (Arc<Fate>, Transport)>>>;

/// The way to a process as it is at that moment.
fn way(ways: &Ways, address: &str) -> Transport {
    let Some((fate, transport)) = ways.lock().get(address).cloned() else { return nowhere() };
    if fate.state.load(Ordering::SeqCst) == DEAD {
        return nowhere();
    }
    Transport::new(service_fn(move |call| {
        let (fate, transport) = (Arc::clone(&fate), transport.clone());
        async move {
            fate.goes_on().await;
            Ok(transport.oneshot(call).await.unwrap())
        }
    }))
}

/// Where nobody listens.
fn nowhere() -> Transport {
    remote(tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy())
}

/// So many processes on one store.
async fn cluster(count: u8) -> Vec<Process> {
    let store = LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap();
    let ways = Ways::default();
    let mut processes = Vec::new();
    for n in 1..=count {
        processes.push(start(&store, &ways, n).await);
    }
    processes
}

async fn start(store: &Arc<LocalStore>, ways: &Ways, n: u8) -> Process {
    let fate = Arc::new(Fate { store: Arc::clone(store) as _, state: AtomicU8::new(WELL) });
    let member = Member::new(IncarnationId::new([n; 16]), kind::ROOM_STATE, &n.to_string(), &n.to_string());
    let clock = Arc::new(polity_core::SystemClock::new());
    let registry = Registry::join(Arc::clone(&fate) as _, &member).await.unwrap();
    let deps = deps(Arc::clone(&fate) as _, clock.clone());
    let names = Arc::clone(&deps.names);
    let env = Env {
        store: Arc::clone(&fate) as _,
        registry: Arc::clone(&registry),
        moved: Arc::new(Deaf),
        clock,
        shared: true,
    };
    let service = Service::new(deps, env, 1000);
    let known = Arc::clone(ways);
    let peers = Peers::new(Arc::new(move |address: &str| way(&known, address)));
    let rooms = service.clone();
    let door =
        Forward::new(Live::new(member.incarnation), peers, Arc::clone(&registry), move |asked| rooms.asked(asked));
    let signs: ClusterServer<ClusterService> = ClusterService::new(Journal::new(member.incarnation)).server();
    let both = service_fn(move |call: http::Request<tonic::body::Body>| {
        let (door, signs) = (door.clone(), signs.clone());
        async move {
            if call.uri().path().starts_with("/polity.cluster") {
                return signs.oneshot(call).await;
            }
            door.oneshot(call).await
        }
    });
    ways.lock().insert(n.to_string(), (Arc::clone(&fate), polity_proto::local(both)));
    let client = RoomStateClient::new(way(ways, &n.to_string()));
    let world = World { store: Arc::clone(store) as _, names, client };
    Process { member, fate, registry, service, ways: Arc::clone(ways), world }
}

impl Process {
    fn id(&self) -> IncarnationId {
        self.member.incarnation
    }

    /// Watches the others, as long as it is well.
    fn watch(&self) -> Watch {
        let ways = Arc::clone(&self.ways);
        Watch {
            registry: Arc::clone(&self.registry),
            store: Arc::clone(&self.fate) as _,
            this: self.member.clone(),
            live: Live::new(self.id()),
            connect: Arc::new(move |address: &str| way(&ways, address)),
            clock: Arc::new(polity_core::SystemClock::new()),
            uses: vec![self.service.recover()],
        }
    }

    /// Sends as Alice.
    async fn send(&self, room: &str, txn: &str) -> Result<u64, Detail> {
        Ok(self.world.clone().send(ALICE, room, txn).await?.1)
    }

    /// Sends until it is answered well, as clients do; how long that took.
    async fn send_at_last(&self, room: &str, txn: &str) -> Duration {
        let began = Instant::now();
        while let Err(error) = self.send(room, txn).await {
            assert!(began.elapsed() < Duration::from_secs(20), "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    async fn head(&self, room: &str) -> Head {
        let key = self.world.names.find(TenantId::new(TENANT), room).await.unwrap().unwrap();
        let store = &*self.world.store;
        read::head(store, key, Seq::ZERO, Consistency::Serial).await.unwrap().unwrap().head
    }

    async fn create(&self) -> String {
        self.world.clone().create("12", Preset::PublicChat).await
    }

    /// What stands in the room after its beginning: each message once.
    async fn messages(&self, room: &str) -> Vec<String> {
        let rows = self.world.rows(room).await;
        let body = |row: &RoomRow| {
            let pdu: serde_json::Value = serde_json::from_slice(&row.pdu).unwrap();
            pdu["content"]["body"].as_str().map(str::to_owned)
        };
        let all: Vec<String> = rows.iter().filter_map(body).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each once");
        all
    }
}
