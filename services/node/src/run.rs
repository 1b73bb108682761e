//! Builds the tiers of one process, runs them, and ends them in order.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use polity_accounts::Accounts;
use polity_bus::{Bus, LocalBus, Receiver};
use polity_client_api::{Api, Limits, Parts};
use polity_cluster::{Member, kind};
use polity_core::{Clock, IncarnationId, LogKey, Random, Seq, SystemClock, SystemRandom};
use polity_log::{Env, Moved, Names, Recover, Registry, recover_until_done};
use polity_platform::{
    config::{Config, StoreKind},
    http::{self, Layers, Server, Tls},
    lifecycle::{self, Lifecycle, exit},
    ops::{self, Ready},
    telemetry,
};
use polity_room_state::{Deps, ROOM_LOG, Service};
use polity_store::{MarkedStore, Observed, Store};
use polity_store_local::{LocalStore, Options};
use polity_sync::{
    engine::{AnswerBudget, ChangedUsers, Engine, Own, SentMembers, SettingsCache, UnreadCounts},
    ephemeral::Ephemeral,
    heads::HeadMap,
    live::{Hub, Interest},
    read::Rooms,
};
use ruma_common::RoomVersionId;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{command::say, failure::Failure, tenants::Tenants};

/// Bytes of rows and state nodes that readers keep.
const READ_CACHE: u64 = 64 << 20;
/// Bytes of state nodes that writers keep.
const NODE_CACHE: u64 = 16 << 20;
/// Rooms that stay loaded when idle, at some 8 KiB each. A send to one that isn't costs twice as much.
const LOADED_ROOMS: usize = 12_000;
/// Users' records that stay loaded when idle.
const LOADED_RECORDS: usize = 5_000;
/// Unread counts that are kept, by user and room.
const UNREAD: usize = 100_000;
/// Bytes of counts of whole buckets, from which those of users are made.
const TALLIES: u64 = 16 << 20;
/// Users whose settings are kept.
const SETTINGS: usize = 20_000;
/// Bytes of which members devices have.
const SENT_MEMBERS: u64 = 32 << 20;
/// Bytes of what is users' own and read at every sync.
const OWN: u64 = 64 << 20;
/// Bytes of the rooms of users whose devices changed.
const CHANGED_USERS: u64 = 8 << 20;
/// Logs in the head map.
const HEADS: usize = 200_000;
/// How often idle logs are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// The head map hears of appends before they are acknowledged.
struct ToHeads(Arc<HeadMap>);

impl Moved for ToHeads {
    fn moved(&self, key: LogKey, seq: Seq) {
        self.0.moved(key.tenant, key.log, seq);
    }
}

/// What a process is made of.
struct Node {
    registry: Arc<Registry>,
    accounts: Arc<Accounts>,
    rooms: Service,
    engine: Arc<Engine>,
    api: Arc<Api>,
}

/// Runs until a signal says stop.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let _telemetry = telemetry::start(&config.log, &config.telemetry, &config.node_name())
        .map_err(|error| Failure::new(exit::USAGE, error))?;
    let life = Lifecycle::new(Duration::from_secs(config.shutdown_timeout_s));
    let metrics = ops::record_metrics(&life.stop()).map_err(Failure::software)?;
    describe_metrics();
    if let Err(error) = lifecycle::raise_file_limit() {
        tracing::warn!(%error, "the number of connections stays as the system limits it");
    }
    // Ports first: nothing is touched by a process that can't serve.
    let clients = http::bind(config.listeners.client.bind)?;
    let operators = http::bind(config.listeners.ops.bind)?;
    let tls = tls(config)?;
    let certificate = tls.clone();
    life.listen(move || reload(certificate.as_deref())).map_err(Failure::software)?;
    let ready = Ready::default();
    let ops = serve_operators(operators, config, ops::router(ready.clone(), metrics), life.cut());
    let node = build(config, &life).await?;
    recover(&node, &config.node_name(), &life);
    sweep(&node, &life);
    work(&node, &life);
    ready.set(true);
    greet(config);
    let routes = Layers::new(&config.limits).around(polity_client_api::router(Arc::clone(&node.api)));
    let listener = &config.listeners.client;
    let server = Server::new(clients, &config.limits).with_tls(tls).with_trusted_proxies(&listener.trusted_proxies);
    let stop = life.stop();
    let stopping = async {
        stop.cancelled().await;
        ready.set(false);
        Instant::now()
    };
    let ((), stopped) = tokio::join!(server.serve(routes, stop.clone(), life.drain()), stopping);
    let left = || life.drain().saturating_sub(stopped.elapsed());
    // What users owe to rooms first, while there are rooms to take it.
    let settled = node.accounts.drain(&*node.api, left()).await;
    if node.rooms.drain(left()).await && settled {
        // Nothing of this run is left for the next one to recover, unless a log's task has died.
        if !node.registry.leave().await? {
            tracing::warn!("the next run has logs of this one to recover");
        }
    }
    let asked_for = life.ended().await;
    let _ = ops.await;
    if asked_for { Ok(()) } else { Err(Failure::software("a part that the process can't do without has ended")) }
}

fn describe_metrics() {
    polity_room_state::describe_metrics();
    polity_store::describe_metrics();
    polity_store_local::describe_metrics();
    polity_log::describe_metrics();
    polity_accounts::describe_metrics();
    polity_sync::describe_metrics();
    polity_bus::describe_metrics();
}

/// Answers operators until the very end.
fn serve_operators(listener: TcpListener, config: &Config, routes: Router, cut: CancellationToken) -> JoinHandle<()> {
    let server = Server::new(listener, &config.limits);
    #[expect(clippy::disallowed_methods, reason = "ends after the tasks that the end waits for")]
    tokio::spawn(server.serve(routes, cut, Duration::from_secs(1)))
}

/// The client listener's certificate, if it has one.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Failure> {
    let listener = &config.listeners.client;
    if !listener.is_tls() {
        return Ok(None);
    }
    let loaded = Tls::load(&listener.tls_cert, &listener.tls_key);
    loaded.map(Some).map_err(|error| Failure::new(exit::USAGE, error))
}

/// Reads the certificate again: an operator sends SIGHUP after a renewal.
fn reload(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        None => {}
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(%error, "the new certificate can't be used: the old one stays"),
    }
}

/// Makes a tenant, in a store that no server has open.
pub(crate) async fn create_tenant(config: &Config, name: &str, public_baseurl: Option<&str>) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    make_data_dir(config)?;
    let store = open_store(config, &clock)?;
    Tenants::create(config, &*store, &SystemRandom, (name, public_baseurl)).await
}

fn make_data_dir(config: &Config) -> Result<(), Failure> {
    // Of this user alone: signing keys and everybody's messages are in it.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| Failure::new(exit::CANT_CREATE, format!("{}: {error}", config.data_dir.display())))
}

fn open_store(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<LocalStore>, Failure> {
    if config.store.kind == StoreKind::Memory {
        return LocalStore::memory(Arc::clone(clock), &SystemRandom).map_err(Failure::software);
    }
    Ok(LocalStore::open(&config.data_dir.join("store"), &Options::default(), Arc::clone(clock), &SystemRandom)?)
}

/// The store, watched. Once it can't be written any more the process ends: the next start finds what is on disk, whole.
fn watch(store: Arc<LocalStore>, life: &Lifecycle) -> Arc<dyn Store> {
    let (watched, stop) = (Arc::clone(&store), life.stop());
    life.essential("store", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            reason = watched.failed() => tracing::error!(reason, "the store can't be written any more"),
        }
    });
    Observed::new(store)
}

async fn build(config: &Config, life: &Lifecycle) -> Result<Node, Failure> {
    make_data_dir(config)?;
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let (store, marks) = MarkedStore::over(watch(open_store(config, &clock)?, life));
    let tenants = Arc::new(Tenants::load(config, &*store, &*random).await?);
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let this = Member::new(IncarnationId::new(random.bytes()), kind::POLITY, &config.node_name(), "");
    let registry = Registry::join(Arc::clone(&store), &this).await?;
    let heads = Arc::new(HeadMap::new(HEADS));
    let env = Env {
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        moved: Arc::new(ToHeads(Arc::clone(&heads))),
        clock: Arc::clone(&clock),
    };
    let names = Arc::new(Names::new(Arc::clone(&store), Arc::clone(&random), ROOM_LOG));
    let deps = Deps::new(
        Arc::clone(&store),
        Arc::clone(&bus),
        Arc::clone(&clock),
        Arc::clone(&random),
        Arc::clone(&tenants) as _,
        Arc::clone(&names),
        NODE_CACHE,
    );
    let rooms = Service::new(deps, env.clone(), LOADED_ROOMS);
    let cheap = config.passwords.cheap_hash_for_tests;
    let accounts = Accounts::new(&env, Arc::clone(&marks), &bus, Arc::clone(&random), cheap, LOADED_RECORDS);
    let accounts = Arc::new(accounts.map_err(Failure::software)?);
    let (subscriptions, receiver) = bus.receiver(65_536);
    let interest = Interest::new(subscriptions);
    let reader = Rooms::new(Arc::clone(&store), names, Arc::clone(&heads), Arc::clone(&interest), READ_CACHE);
    let engine = Arc::new(Engine {
        store: Arc::clone(&store),
        accounts: Arc::clone(&accounts),
        rooms: Arc::new(reader),
        heads,
        own: Own::new(marks, OWN),
        sent_members: SentMembers::new(SENT_MEMBERS),
        unread: UnreadCounts::new(UNREAD, TALLIES),
        settings: SettingsCache::new(SETTINGS),
        changed_users: ChangedUsers::new(CHANGED_USERS),
        answers: AnswerBudget::new(config.limits.sync_answers_bytes),
        interest: Arc::clone(&interest),
        ephemeral: Arc::new(Ephemeral::new(u32::from_le_bytes(random.bytes()))),
        clock: Arc::clone(&clock),
        random,
        stop: life.stop(),
    });
    let (ephemeral, reader) = (Arc::clone(&engine.ephemeral), Arc::clone(&engine.rooms));
    tell_news(Hub { interest, ephemeral, rooms: reader, store, clock }, receiver, life);
    let api = Api::new(Parts {
        tenants: tenants.for_clients(),
        accounts: Arc::clone(&accounts),
        engine: Arc::clone(&engine),
        rooms: rooms.transport(),
        bus,
        max_body_bytes: config.limits.request_body_bytes,
        default_room_version: RoomVersionId::try_from(config.rooms.default_version.as_str())
            .map_err(|error| Failure::new(exit::USAGE, error))?,
        open_registration: config.registration.enabled,
        shared_secret: config.registration.shared_secret.get().map(str::to_owned),
        public_list_without_auth: config.rooms.public_list_without_auth,
        limits: Limits::new(&config.rate_limits),
    });
    Ok(Node { registry, accounts, rooms, engine, api })
}

/// Takes to who waits what the bus tells.
fn tell_news(hub: Hub, receiver: Box<dyn Receiver>, life: &Lifecycle) {
    let stop = life.stop();
    life.essential("news", async move {
        tokio::select! { () = stop.cancelled() => {}, () = hub.run(receiver) => {} }
    });
}

/// Finishes what earlier runs left, while requests are served: whatever one asks for is recovered first. A process that was closed
/// ends: it can write nothing any more.
fn recover(node: &Node, name: &str, life: &Lifecycle) {
    let mut uses: Vec<Arc<dyn Recover>> = node.accounts.uses().recover();
    uses.push(node.rooms.recover());
    let (registry, name, stop) = (Arc::clone(&node.registry), name.to_owned(), life.stop());
    life.essential("recovery", async move {
        let recovered = tokio::select! {
            () = stop.cancelled() => return,
            recovered = recover_until_done(&registry, &name, &uses) => recovered,
        };
        match recovered {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "logs of an earlier run were recovered"),
            Err(error) => return tracing::error!(%error, "an earlier run can't be recovered"),
        }
        stop.cancelled().await;
    });
}

/// Does what changes of users owe, while requests are served.
fn work(node: &Node, life: &Lifecycle) {
    let (accounts, rooms, stop) = (Arc::clone(&node.accounts), Arc::clone(&node.api), life.stop());
    life.essential("work", async move {
        tokio::select! { () = stop.cancelled() => {}, () = accounts.work(rooms) => {} }
    });
}

/// Unloads what is idle, and tells how full the caches are.
fn sweep(node: &Node, life: &Lifecycle) {
    let (rooms, accounts, stop) = (node.rooms.clone(), Arc::clone(&node.accounts), life.stop());
    let engine = Arc::clone(&node.engine);
    life.essential("sweep", async move {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            rooms.sweep();
            accounts.uses().sweep();
            engine.tell_sizes();
        }
    });
}

/// What to do next.
fn greet(config: &Config) {
    let url = config.base_url();
    say(&format!("Polity serves {} at {url}", config.server_name));
    if config.registration.enabled {
        say("Anybody who reaches it may make an account: give a client that address and register,");
        let body = r#"{"username":"me","password":"SECRET","auth":{"type":"m.login.dummy"}}"#;
        say(&format!("or: curl -X POST {url}/_matrix/client/v3/register -d '{body}'"));
    } else {
        say("Registration is closed: set registration.enabled or registration.shared_secret to make accounts.");
    }
}
