//! A whole server in this thread, on the store in memory, with a user in a room: for targets that ask it.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use polity_accounts::Accounts;
use polity_bus::{Bus, LocalBus};
use polity_client_api::{Api, Parts};
use polity_cluster::{
    ClusterService,
    digest::{Journal, Writers},
};
use polity_core::{Clock, IncarnationId, Random, SystemClock, SystemRandom, TenantId, sync_token::RoomsHeld};
use polity_log::{Env, Member, Names, Registry};
use polity_proto::Transport;
use polity_room_state::{Deps, ROOM_LOG, Service};
use polity_store::MarkedStore;
use polity_store_local::LocalStore;
use polity_sync::{follow::Heard, heads::HeadMap, live::Interest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::json::SERVER;
use crate::parts::{self, Reading};

pub(super) const TENANT: TenantId = TenantId::new(1);
const TENANTS: [parts::Name; 1] = [(TENANT, SERVER)];
/// After so many questions there is a new one: what a question finds depends on few others, and memory is bounded.
const QUESTIONS: usize = 500;

/// See the module.
pub(super) struct Server {
    runtime: Runtime,
    router: axum::Router,
    pub(super) rooms: Transport,
    /// The way to what every process answers.
    pub(super) cluster: Transport,
    /// What stands for what in questions: `{token}`, `{user}`, `{room}`, `{event}`, `{since}`.
    pub(super) names: Vec<(&'static str, String)>,
    asked: usize,
}

thread_local! {
    static RUNNING: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// Asks the server of this thread something.
pub(super) fn with_server(ask: impl FnOnce(&Server)) {
    RUNNING.with_borrow_mut(|running| {
        let mut server = running.take().unwrap_or_else(Server::start);
        ask(&server);
        server.asked += 1;
        *running = (server.asked < QUESTIONS).then_some(server);
    });
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let (router, rooms, cluster) = runtime.block_on(serve());
        let mut server = Self { runtime, router, rooms, cluster, names: Vec::new(), asked: 0 };
        let body = json!({"username": "a", "password": "p", "device_id": "D", "auth": {"type": "m.login.dummy"}});
        let registered = server.succeed("POST", "/register", body);
        server.names.push(("{token}", registered["access_token"].as_str().expect("a token").to_owned()));
        server.names.push(("{user}", format!("@a:{SERVER}")));
        let created = server.succeed("POST", "/createRoom", json!({"preset": "public_chat", "room_alias_name": "a"}));
        let room = created["room_id"].as_str().expect("a room").to_owned();
        let sent = server.succeed("PUT", &format!("/rooms/{room}/send/m.room.message/1"), json!({"body": "hello"}));
        server.names.push(("{room}", room));
        server.names.push(("{event}", sent["event_id"].as_str().expect("an event").to_owned()));
        let synced = server.succeed("GET", "/sync", Value::Null);
        server.names.push(("{since}", synced["next_batch"].as_str().expect("a token").to_owned()));
        server
    }

    fn succeed(&self, method: &str, path: &str, body: Value) -> Value {
        let token = self.names.first().map_or_else(String::new, |(_, token)| format!("Bearer {token}"));
        let request = Request::builder().method(method).uri(format!("/_matrix/client/v3{path}"));
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let (status, answer) = self.ask(request.header("authorization", token).body(body).expect("a request"));
        assert_eq!(status, StatusCode::OK, "{answer:?}");
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// What is answered, in simulated time: whoever waits doesn't.
    pub(super) fn ask(&self, request: Request<Bytes>) -> (StatusCode, Bytes) {
        let asked = self.router.clone().oneshot(request.map(Full::new));
        self.within(async {
            let answer = asked.await.expect("infallible");
            (answer.status(), answer.into_body().collect().await.expect("a body").to_bytes())
        })
    }

    /// Runs something to its end.
    pub(super) fn within<T>(&self, asked: impl Future<Output = T>) -> T {
        let patient = async { tokio::time::timeout(Duration::from_secs(600), asked).await };
        self.runtime.block_on(patient).expect("an answer within minutes")
    }
}

/// The routes of the client API, the way to who writes rooms, and to what every process answers: what one process has, as the composition
/// root builds it.
async fn serve() -> (axum::Router, Transport, Transport) {
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let store = LocalStore::memory(Arc::clone(&clock), &*random).expect("a store");
    let (store, marks) = MarkedStore::telling(store, None);
    let this = Member::new(IncarnationId::new(random.bytes()), "polity", "a", "");
    let registry = Registry::join(Arc::clone(&store), &this).await.expect("a registry");
    let journal = Journal::new(this.incarnation);
    let heads = Arc::new(HeadMap::new(parts::Caches::LARGE.heads, true));
    let env = Env {
        store: Arc::clone(&store),
        registry,
        moved: Arc::new(Heard { heads: Arc::clone(&heads), journal: Some(Arc::clone(&journal)) }),
        clock: Arc::clone(&clock),
        shared: false,
    };
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let names = Arc::new(Names::new(Arc::clone(&store), Arc::clone(&random), ROOM_LOG));
    let deps = Deps::new(
        Arc::clone(&store),
        Arc::clone(&bus),
        Arc::clone(&clock),
        Arc::clone(&random),
        parts::signers(&TENANTS),
        Arc::clone(&names),
        parts::Caches::LARGE.read,
    );
    let rooms = Service::new(deps, env.clone(), 100).transport();
    let accounts = Accounts::new(&env, Arc::clone(&marks), &bus, Arc::clone(&random), true, 100).expect("passwords");
    let accounts = Arc::new(accounts);
    let (subscriptions, receiver) = bus.receiver(1000);
    let interest = Interest::new(subscriptions);
    let (writers, stop) = (Writers::none(), CancellationToken::new());
    let rooms_held = RoomsHeld::default();
    let caches = parts::Caches::LARGE;
    let reading =
        Reading { store, marks, clock, random, names, heads, interest, writers, accounts, stop, rooms_held, caches };
    let engine = reading.engine();
    parts::hear(&engine, &bus, receiver, None);
    let parts = parts::api(&TENANTS, engine, rooms.clone(), bus);
    let api = Api::new(Parts { shared_secret: Some("secret".to_owned()), ..parts });
    (polity_client_api::router(api), rooms, ClusterService::new(journal).transport())
}
