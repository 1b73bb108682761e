//! Several client-api instances and a room-state process, each a process of its own as far as it can tell, on one store in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use polity_accounts::Accounts;
use polity_bus::Bus;
use polity_client_api::{Api, Parts};
use polity_cluster::{
    ClusterService, Member,
    digest::{Flush, Journal, Writers, publish},
    kind,
};
use polity_core::{Clock, IncarnationId, SystemClock, SystemRandom, TenantId, sync_token::RoomsHeld, tasks};
use polity_log::{Env, Names, Registry};
use polity_proto::Transport;
use polity_room_state::{Deps, ROOM_LOG, Service};
use polity_store::{MarkedStore, Marks, Store};
use polity_store_local::LocalStore;
use polity_sync::{
    follow::{Heard, Known},
    heads::HeadMap,
    live::Interest,
};
use polity_tests::parts::{self, Reading};
use ruma_common::RoomVersionId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{bus::LossyBus, counted::CountedStore, profile::Calls, unheard::HeldStore};

const TENANTS: [parts::Name; 1] = [(TenantId::new(1), "t.test")];

/// See the module.
pub(crate) struct World {
    /// The store as the process has it that writes rooms.
    pub(crate) rooms_store: Arc<HeldStore>,
    /// The store as the instances have it.
    pub(crate) clients_store: Arc<HeldStore>,
    pub(crate) bus: Arc<LossyBus>,
    clock: Arc<dyn Clock>,
    /// The ways to processes, by address.
    processes: Arc<Mutex<HashMap<String, Transport>>>,
    rooms: Transport,
    /// What the first instance gives to rooms of profiles.
    pub(crate) profiles_of_first: Arc<Calls>,
    pub(crate) instances: Vec<Instance>,
}

/// A client-api process.
pub(crate) struct Instance {
    router: axum::Router,
    accounts: Arc<Accounts>,
    api: Arc<Api>,
    /// Reads of the engine and of the API, without those of the registry.
    pub(crate) reads: Arc<CountedStore>,
}

/// A process's place among the others.
struct Process {
    registry: Arc<Registry>,
    journal: Arc<Journal>,
    store: Arc<dyn Store>,
    marks: Arc<Marks>,
}

impl World {
    /// So many instances.
    pub(crate) async fn of(instances: usize) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = LocalStore::memory(Arc::clone(&clock), &SystemRandom).unwrap();
        let processes: Arc<Mutex<HashMap<String, Transport>>> = Arc::default();
        let bus = Arc::new(LossyBus::default());
        // Until there is one.
        let nobody = ClusterService::new(Journal::new(IncarnationId::new([0; 16]))).transport();
        let (rooms_store, clients_store) = (HeldStore::of(Arc::clone(&store) as _), HeldStore::of(store));
        let (rooms, profiles_of_first, none) = (nobody, Calls::new(), Vec::new());
        let mut world =
            Self { rooms_store, clients_store, bus, clock, processes, rooms, profiles_of_first, instances: none };
        world.rooms = world.room_state().await;
        for _ in 0..instances {
            world.start().await;
        }
        world
    }

    async fn process(&self, kind: &str, store: Arc<dyn Store>) -> Process {
        let incarnation = IncarnationId::new(rand::random());
        let address = format!("{incarnation}:1");
        let journal = Journal::new(incarnation);
        let (store, marks) = MarkedStore::telling(store, Some(Arc::clone(&journal) as _));
        let member = Member::new(incarnation, kind, &address, &address);
        let transport = ClusterService::new(Arc::clone(&journal)).transport();
        self.processes.lock().insert(address, transport);
        let registry = Registry::join(Arc::clone(&store), &member).await.unwrap();
        Process { registry, journal, store, marks }
    }

    async fn room_state(&self) -> Transport {
        let Process { registry, journal, store, .. } =
            self.process(kind::ROOM_STATE, Arc::clone(&self.rooms_store) as _).await;
        let moved = Arc::clone(&journal) as _;
        let env = Env { store: Arc::clone(&store), registry, moved, clock: Arc::clone(&self.clock), shared: true };
        let names = Arc::new(Names::new(Arc::clone(&store), Arc::new(SystemRandom), ROOM_LOG));
        let bus = Arc::clone(&self.bus) as Arc<dyn Bus>;
        tasks::spawn(publish(journal, Arc::clone(&bus), None));
        let deps = Deps::new(
            store,
            bus,
            Arc::clone(&self.clock),
            Arc::new(SystemRandom),
            parts::signers(&TENANTS),
            names,
            parts::Caches::LARGE.read,
        );
        Service::new(deps, env, 1000).transport()
    }

    /// Starts another instance.
    pub(crate) async fn start(&mut self) {
        let Process { registry, journal, store, marks } =
            self.process(kind::CLIENT_API, Arc::clone(&self.clients_store) as _).await;
        let reads = CountedStore::new(store);
        let store: Arc<dyn Store> = Arc::clone(&reads) as _;
        let (bus, clock) = (Arc::clone(&self.bus) as Arc<dyn Bus>, Arc::clone(&self.clock));
        let heads = Arc::new(HeadMap::new(parts::Caches::LARGE.heads, false));
        let (subscriptions, receiver) = bus.receiver(10_000);
        let interest = Interest::new(subscriptions);
        let known = Known { heads: Arc::clone(&heads), marks: Arc::clone(&marks), interest: Arc::clone(&interest) };
        let known = Arc::new(known);
        let processes = Arc::clone(&self.processes);
        let connect = Arc::new(move |address: &str| processes.lock()[address].clone());
        let flush = Flush::new(Arc::clone(&registry), connect, Arc::clone(&known) as _);
        let writers = Writers::asked_by(Arc::clone(&flush));
        let moved = Arc::new(Heard { heads: Arc::clone(&heads), journal: Some(Arc::clone(&journal)) });
        let env = Env { store: Arc::clone(&store), registry, moved, clock: Arc::clone(&clock), shared: true };
        let random = Arc::new(SystemRandom);
        let names = Arc::new(Names::new(Arc::clone(&store), random.clone(), ROOM_LOG));
        let accounts = Arc::new(Accounts::new(&env, Arc::clone(&marks), &bus, random.clone(), true, 1000).unwrap());
        let stop = CancellationToken::new();
        let (rooms_held, caches, works) = (RoomsHeld::default(), parts::Caches::LARGE, Arc::clone(&accounts));
        let reading = Reading {
            store,
            marks,
            clock,
            random,
            names,
            heads,
            interest,
            writers,
            accounts,
            stop,
            rooms_held,
            caches,
        };
        let (engine, own) = (reading.engine(), Arc::clone(&known) as _);
        parts::hear(&engine, &bus, receiver, Some(known));
        tasks::spawn(publish(journal, Arc::clone(&bus), Some(own)));
        let following = Arc::clone(&bus);
        tasks::spawn(async move { flush.run(&*following).await });
        let rooms = match self.instances.is_empty() {
            true => self.profiles_of_first.way(self.rooms.clone()),
            false => self.rooms.clone(),
        };
        let parts = parts::api(&TENANTS, engine, rooms, bus);
        let api = Api::new(Parts { default_room_version: RoomVersionId::V11, ..parts });
        let router = polity_client_api::router(Arc::clone(&api));
        self.instances.push(Instance { router, accounts: works, api, reads });
    }

    /// From now on the instances do what changes owe elsewhere.
    pub(crate) fn work(&self) {
        for Instance { accounts, api, .. } in &self.instances {
            tasks::spawn(Arc::clone(accounts).work(api.room_work()));
        }
    }

    /// A request to one of the instances.
    pub(crate) async fn ask(&self, at: usize, request: Ask<'_>) -> (u16, Value) {
        let mut built =
            http::Request::builder().method(request.method).uri(format!("/_matrix/client/v3{}", request.path));
        if let Some(token) = request.token {
            built = built.header("authorization", format!("Bearer {token}"));
        }
        let body = if request.body.is_null() { Bytes::new() } else { request.body.to_string().into() };
        let router = self.instances[at % self.instances.len()].router.clone();
        let answer = router.oneshot(built.body(Full::new(body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// A user, registered at one instance, whose requests go to one instance after the other.
    pub(crate) async fn user(&self, name: &str) -> Client<'_> {
        let body = json!({"username": name, "password": "secret", "device_id": "D", "auth": {"type": "m.login.dummy"}});
        let (status, answer) = self.ask(0, Ask { method: "POST", path: "/register", token: None, body }).await;
        assert_eq!(status, 200, "{answer}");
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        let next = AtomicUsize::new(0);
        Client { world: self, token: text("access_token"), user_id: text("user_id"), next, since: Mutex::default() }
    }
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: Option<&'a str>,
    pub(crate) body: Value,
}

/// A client that is never twice in a row at the same instance.
pub(crate) struct Client<'a> {
    pub(crate) world: &'a World,
    pub(crate) token: String,
    pub(crate) user_id: String,
    next: AtomicUsize,
    pub(crate) since: Mutex<Option<String>>,
}

impl Client<'_> {
    pub(crate) async fn at(&self, at: usize, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.world.ask(at, Ask { method, path, token: Some(&self.token), body }).await
    }

    /// The next request, at the next instance; it must succeed.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let at = self.next.fetch_add(1, Ordering::SeqCst);
        let (status, answer) = self.at(at, method, path, body).await;
        assert_eq!(status, 200, "{method} {path} at {at}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, Value::Null).await
    }

    /// The next sync of a token at some instance; the client stays where it is.
    pub(crate) async fn sync_at(&self, at: usize, timeout_ms: u64) -> Value {
        let since = self.since.lock().clone().map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/sync?timeout={timeout_ms}{since}");
        let (status, answer) = self.at(at, "GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The next sync, at some instance.
    pub(crate) async fn sync_at_next(&self, at: usize, timeout_ms: u64) -> Value {
        let answer = self.sync_at(at, timeout_ms).await;
        *self.since.lock() = Some(answer["next_batch"].as_str().unwrap().to_owned());
        answer
    }

    /// The next sync, at the next instance.
    pub(crate) async fn sync(&self, timeout_ms: u64) -> Value {
        self.sync_at_next(self.next.fetch_add(1, Ordering::SeqCst), timeout_ms).await
    }

    pub(crate) async fn create(&self) -> String {
        let answer = self.call("POST", "/createRoom", json!({"preset": "public_chat"})).await;
        answer["room_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn say(&self, room: &str, txn: &str) -> String {
        let path = format!("/rooms/{room}/send/m.room.message/{txn}");
        let answer = self.call("PUT", &path, json!({"msgtype": "m.text", "body": txn})).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }
}

/// The bodies of the messages of a room in an answer.
pub(crate) fn said(answer: &Value, room: &str) -> Vec<String> {
    let events = answer["rooms"]["join"][room]["timeline"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}
