//! The life of a process: it takes its ports, lays its ground, builds its parts on it, serves, and ends in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use polity_log::{LogError, MemberState, Recover, Registry, recover_until_done};
use polity_platform::{
    config::{Config, StoreKind},
    grpc::Services,
    http::{Layers, Server},
    lifecycle::{self, Lifecycle, exit},
    ops::{self, Ready},
    telemetry,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::Clients,
    failure::Failure,
    greeting::greet,
    ground::Ground,
    members::Members,
    ports::{ClientPort, Ports},
    readiness,
    rooms::Rooms,
    tier::Tier,
};

/// How often idle logs are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// The parts of a process.
struct Node {
    ground: Ground,
    rooms: Option<Arc<Rooms>>,
    clients: Option<Arc<Clients>>,
    /// What other processes may ask.
    services: Services,
    members: Members,
}

/// Runs until a signal says stop.
pub(crate) async fn run(tier: Tier, config: &Config) -> Result<(), Failure> {
    let _telemetry = telemetry::start(&config.log, &config.telemetry, &tier.node_name(config))
        .map_err(|error| Failure::new(exit::USAGE, error))?;
    let life = Lifecycle::new(Duration::from_secs(config.shutdown_timeout_s));
    let metrics = ops::record_metrics(&life.stop()).map_err(Failure::software)?;
    describe_metrics();
    if let Err(error) = lifecycle::raise_file_limit() {
        tracing::warn!(%error, "the number of connections stays as the system limits it");
    }
    let ports = Ports::take(tier, config)?;
    let (certificates, address) = (Arc::new(ports.certificates()), ports.address().to_owned());
    let (reloaded, stop) = (Arc::clone(&certificates), life.stop());
    life.listen(move || reloaded.reload()).map_err(Failure::software)?;
    life.essential("certificates", async move { certificates.watch(stop).await });
    let ready = Ready::default();
    let ops = serve_operators(ports.ops, config, ops::router(ready.clone(), metrics), life.cut());
    if let Some(ground) = Ground::lay(tier, config, &address, &life).await? {
        let members = Members::new(&ground, ports.internal);
        members.expect_no_namesake(&ground, &life.stop()).await?;
        let (mut services, rooms) = (members.services(), tier.writes_rooms().then(|| Rooms::new(&ground)));
        if let Some(rooms) = &rooms {
            services = rooms.serve_in(services, &ground, &members);
        }
        let way = members.rooms(&services);
        let clients =
            tier.serves_clients().then(|| Clients::new(config, &ground, way, members.connect(), &life)).transpose()?;
        if clients.is_none() {
            ground.digests.tell(&ground.bus, None, &life);
        }
        let (rooms, clients) = (rooms.map(Arc::new), clients.map(Arc::new));
        let node = Node { ground, rooms, clients, services, members };
        node.work(config, &ready, &life);
        node.serve(tier, config, ports.client, &ready, &life).await?;
    }
    let asked_for = life.ended().await;
    let _ = ops.await;
    if asked_for { Ok(()) } else { Err(Failure::software("a part that the process can't do without has ended")) }
}

/// Takes earlier runs out of the registry of a process that nobody else reads.
async fn prune(registry: &Registry) -> Result<(), LogError> {
    let drained = |member: polity_log::Member| (member.state == MemberState::Drained).then_some(member.incarnation);
    let ended: Vec<_> = registry.members().await?.into_iter().filter_map(drained).collect();
    registry.prune(&ended).await.map(drop)
}

fn describe_metrics() {
    polity_room_state::describe_metrics();
    polity_store::describe_metrics();
    polity_store_local::describe_metrics();
    polity_store_scylla::describe_metrics();
    polity_log::describe_metrics();
    polity_accounts::describe_metrics();
    polity_sync::describe_metrics();
    polity_bus::describe_metrics();
    polity_bus_nats::describe_metrics();
    polity_cluster::describe_metrics();
    polity_cluster::digest::describe_metrics();
}

/// Answers operators until the very end.
fn serve_operators(listener: TcpListener, config: &Config, routes: Router, cut: CancellationToken) -> JoinHandle<()> {
    let server = Server::new(listener, &config.limits);
    #[expect(clippy::disallowed_methods, reason = "ends after the tasks that the end waits for")]
    tokio::spawn(server.serve(routes, cut, Duration::from_secs(1)))
}

// === impl Node ===

impl Node {
    /// Does what goes on beside requests.
    fn work(&self, config: &Config, ready: &Ready, life: &Lifecycle) {
        let mut uses: Vec<Arc<dyn Recover>> = self.clients.iter().flat_map(|clients| clients.recover()).collect();
        uses.extend(self.rooms.iter().map(|rooms| rooms.recover()));
        self.members.watch(&self.ground, uses.clone(), life);
        self.recover(uses, life);
        self.sweep(life);
        if let Some(clients) = &self.clients {
            clients.work(life);
        }
        if config.store.kind == StoreKind::Cql {
            readiness::watch(Arc::clone(&self.ground.store), ready, life.stop());
        }
    }

    /// Finishes what earlier runs left, while requests are served: whatever one asks for is recovered first. A process that was
    /// closed ends: it can write nothing any more.
    fn recover(&self, uses: Vec<Arc<dyn Recover>>, life: &Lifecycle) {
        let (registry, name, stop) = (Arc::clone(&self.ground.registry), self.ground.this.node.clone(), life.stop());
        let alone = !self.ground.is_shared();
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
            // Others watch each other, and do it after a while.
            if alone && let Err(error) = prune(&registry).await {
                tracing::debug!(%error, "earlier runs stay in the registry");
            }
            stop.cancelled().await;
        });
    }

    /// Unloads what is idle, and tells how full the caches are.
    fn sweep(&self, life: &Lifecycle) {
        let (rooms, clients, stop) = (self.rooms.clone(), self.clients.clone(), life.stop());
        life.essential("sweep", async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                rooms.iter().for_each(|rooms| rooms.sweep());
                clients.iter().for_each(|clients| clients.sweep());
            }
        });
    }

    /// Serves until the end begins, then leaves everything as a successor likes to find it.
    async fn serve(
        mut self,
        tier: Tier,
        config: &Config,
        client: Option<ClientPort>,
        ready: &Ready,
        life: &Lifecycle,
    ) -> Result<(), Failure> {
        let answering = self.members.answer(self.services.clone(), &config.limits, ready, life.drain())?;
        let client = client.map(|port| listen(config, port)).transpose()?;
        ready.set(true);
        greet(tier, config, &self.ground.this.address);
        let members = &self.members;
        let stopping = async {
            life.stop().cancelled().await;
            ready.set(false);
            members.leave();
            Instant::now()
        };
        let stopped = match client.zip(self.clients.as_ref()) {
            Some((server, clients)) => {
                let routes = Layers::new(&config.limits).around(clients.routes());
                tokio::join!(server.serve(routes, life.stop(), life.drain()), stopping).1
            }
            None => stopping.await,
        };
        self.leave(|| life.drain().saturating_sub(stopped.elapsed())).await?;
        answering.end().await;
        Ok(())
    }

    /// Finishes what is under way, in the time that is `left`.
    async fn leave(&self, left: impl Fn() -> Duration) -> Result<(), Failure> {
        // What users owe to rooms first, while there are rooms to take it.
        let settled = match &self.clients {
            Some(clients) => clients.drain(left()).await,
            None => true,
        };
        let ended = match &self.rooms {
            Some(rooms) => rooms.drain(left()).await,
            None => true,
        };
        let Ground { bus, digests, registry, .. } = &self.ground;
        digests.tell_last(&**bus);
        // Nothing of this run is left for the next one to recover, unless a log's task has died.
        if settled && ended && !registry.leave_after(|| digests.end()).await? {
            tracing::warn!("the next run has logs of this one to recover");
        }
        Ok(())
    }
}

/// A server for clients.
fn listen(config: &Config, port: ClientPort) -> Result<Server, Failure> {
    let listener = &config.listeners.client;
    let server = Server::new(port.reserved.listen()?, &config.limits);
    Ok(server.with_tls(port.tls).with_trusted_proxies(&listener.trusted_proxies))
}
