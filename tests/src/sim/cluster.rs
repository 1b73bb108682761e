//! The nodes of a cluster: each has a process, or none for a while, and what goes wrong is done to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use polity_cluster::kind;
use polity_core::{IncarnationId, tasks};
use polity_log::{Names, Registry};
use polity_proto::Transport;
use polity_room_state::ROOM_LOG;
use polity_store::Store;
use tokio::{sync::watch, time::Instant};

use super::{
    bus::Exchange,
    chance::Chance,
    clock::{self, SimClock},
    detached,
    ground::{Ground, Place},
    instance::Instance,
    nap,
    net::Net,
    process::Process,
    requests::UnderWay,
    scenario::{Fault, Planned, Scenario},
    stamped::StampedStore,
    store::SimStore,
    torn::TornStore,
    weather::Weather,
};
use crate::parts::Caches;

/// A process that ended by itself is started again after so long.
const BACK_MS: (u64, u64) = (20, 500);

/// Within so long whatever a process that has left still does finds that it has, or is done; and between two looks whether it is.
const ENDS: Duration = Duration::from_secs(10);
const LOOK_MS: u64 = 50;

/// Whoever made a call that got lost waits no longer than that.
const CALLS_LAST: Duration = Duration::from_secs(61);

/// A clock that drifts is so many millionths faster or slower, at most: a bad quartz a hundred times over.
const DRIFT_PPM: u64 = 10_000;

/// Who is to be killed or stopped after some steps goes on no longer than that.
const DIES: Duration = Duration::from_millis(300);

/// See the module.
pub(super) struct Cluster {
    seed: u64,
    put_off: u64,
    tight: bool,
    caches: Caches,
    of_a_tier: usize,
    clocks_ms: u64,
    began: Instant,
    /// How far all wall time is off.
    off_ms: i64,
    pub(super) store: Arc<TornStore>,
    pub(super) weather: Arc<Weather>,
    exchange: Arc<Exchange>,
    net: Arc<Net>,
    nodes: Vec<Node>,
    /// What processes kept that left in order.
    leaks: Arc<Mutex<Vec<String>>>,
}

/// A place where one process at a time runs.
struct Node {
    running: Mutex<Option<Running>>,
    /// Whether a process may run here; and none is started before.
    wanted: watch::Sender<bool>,
    /// Whether one does, and is ready.
    ready: watch::Sender<bool>,
    /// How far its wall time is off.
    off_ms: Mutex<i64>,
    /// Its next process is of the next version.
    next: AtomicBool,
}

#[derive(Clone)]
struct Running {
    process: Arc<Process>,
    /// Once it has begun.
    instance: Option<Arc<Instance>>,
}

impl Node {
    fn new(off_ms: i64, next: bool) -> Self {
        Self {
            running: Mutex::new(None),
            wanted: watch::Sender::new(true),
            ready: watch::Sender::new(false),
            off_ms: Mutex::new(off_ms),
            next: AtomicBool::new(next),
        }
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.running.lock().as_ref().map(|running| Arc::clone(&running.process))
    }
}

impl Cluster {
    /// Starts all processes. Their clocks are off by so many milliseconds.
    pub(super) async fn start(scenario: &Scenario, parts: (Arc<dyn Store>, Arc<Weather>), off_ms: i64) -> Arc<Self> {
        let cluster = Self::lay(scenario, parts, off_ms);
        cluster.run().await;
        cluster
    }

    /// Starts all processes.
    pub(super) async fn run(self: &Arc<Self>) {
        for at in 0..self.nodes.len() {
            detached(Arc::clone(self).keep_running(at));
        }
        detached(Arc::clone(self).doom());
        self.all_ready().await;
    }

    /// The places for all processes, none of which runs.
    pub(super) fn lay(scenario: &Scenario, (store, weather): (Arc<dyn Store>, Arc<Weather>), off_ms: i64) -> Arc<Self> {
        let (seed, began, clocks_ms) = (scenario.seed, Instant::now(), scenario.clocks_ms);
        let clock = |chance: &Chance| SimClock::new(began, off_ms + clock::off(clocks_ms, chance));
        let store = StampedStore::new((store, Arc::clone(&weather)), clock, Chance::of(seed, "coordinators"));
        let clocks = Chance::of(seed, "clocks of nodes");
        let next = |at| scenario.upgrade && at % scenario.of_a_tier == 0;
        let nodes = (0..scenario.nodes()).map(|at| Node::new(off_ms + clock::off(clocks_ms, &clocks), next(at)));
        Arc::new(Self {
            seed,
            put_off: scenario.put_off,
            tight: scenario.tight,
            caches: if scenario.forgetful { Caches::SMALL } else { Caches::LARGE },
            of_a_tier: scenario.of_a_tier,
            clocks_ms,
            began,
            off_ms,
            store: TornStore::new(store, Chance::of(seed, "torn")),
            exchange: Exchange::new(Arc::clone(&weather), Chance::of(seed, "bus")),
            net: Net::new(Arc::clone(&weather), Chance::of(seed, "net")),
            weather,
            nodes: nodes.collect(),
            leaks: Arc::default(),
        })
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Whether a node's process writes rooms; the others answer clients.
    fn writes(&self, node: usize) -> bool {
        node < self.of_a_tier
    }

    fn name(&self, node: usize) -> String {
        let tier = if self.writes(node) { "rooms" } else { "clients" };
        format!("{tier}-{}", node % self.of_a_tier)
    }

    fn address(&self, node: usize) -> String {
        format!("{}:1", self.name(node))
    }

    /// Kills all, whenever somebody waits with whom they are to die.
    async fn doom(self: Arc<Self>) {
        loop {
            self.weather.dooms.notified().await;
            self.nodes.iter().filter_map(Node::process).for_each(|process| process.kill());
        }
    }

    /// Waits until a process runs on every node.
    pub(super) async fn all_ready(&self) {
        for node in &self.nodes {
            // The sender is the node's.
            let _ = node.ready.subscribe().wait_for(|ready| *ready).await;
        }
    }

    /// Starts a node's process, and the next one when that has ended.
    async fn keep_running(self: Arc<Self>, at: usize) {
        let (node, chance) = (&self.nodes[at], Chance::of(self.seed, &format!("back {at}")));
        for run in 0_u64.. {
            // The sender is the node's.
            let _ = node.wanted.subscribe().wait_for(|wanted| *wanted).await;
            let process = self.begin(at, run);
            process.ended().await;
            node.ready.send_replace(false);
            *node.running.lock() = None;
            self.net.close(&self.address(at));
            self.exchange.leave(&process.name);
            nap(chance.between(BACK_MS.0, BACK_MS.1)).await;
        }
    }

    fn begin(self: &Arc<Self>, at: usize, run: u64) -> Arc<Process> {
        let name = format!("{} run {run}", self.name(at));
        // Where clocks are off, they also run at different rates.
        let drift = if self.clocks_ms > 0 { DRIFT_PPM } else { 0 };
        let drift = clock::off(drift, &Chance::of(self.seed, &format!("drift of {name}")));
        let clock = SimClock::new(self.began, *self.nodes[at].off_ms.lock()).drifting(drift);
        let next = self.nodes[at].next.load(Ordering::Relaxed);
        let process =
            Process::new(name.clone(), Arc::clone(&self.weather), clock, (Chance::of(self.seed, &name), self.put_off));
        let store = SimStore::new(
            Arc::clone(&self.store),
            (Arc::clone(&self.weather), Arc::clone(&process)),
            Chance::of(self.seed, &format!("store of {name}")),
            (self.clocks_ms > 0, next),
        );
        let place = Place {
            node: at,
            next,
            kind: if self.writes(at) { kind::ROOM_STATE } else { kind::CLIENT_API },
            address: self.address(at),
            net: Arc::clone(&self.net),
            store: Arc::new(store),
            bus: Arc::new(self.exchange.join(&name, at, next)),
            tight: self.tight,
            caches: self.caches,
        };
        let running = Running { process: Arc::clone(&process), instance: None };
        *self.nodes[at].running.lock() = Some(running);
        let (cluster, begun) = (Arc::clone(self), Arc::clone(&process));
        tasks::spawn_in(&process.owner(), async move {
            let ground = Ground::lay(&begun, place).await;
            let instance = if cluster.writes(at) { Instance::rooms(ground) } else { Instance::clients(ground) };
            let node = &cluster.nodes[at];
            if let Some(running) = node.running.lock().as_mut() {
                running.instance = Some(Arc::new(instance));
            }
            begun.is_ready();
            cluster.weather.note(&begun.name, if next { "is ready, and of the next version" } else { "is ready" });
            node.ready.send_replace(true);
        });
        process
    }

    /// A process that answers clients, if one runs there.
    pub(super) fn front(&self, number: u64) -> Option<(Arc<Process>, axum::Router, UnderWay)> {
        let at = self.of_a_tier + usize::try_from(number).unwrap_or_default() % self.of_a_tier;
        let Running { process, instance } = self.nodes[at].running.lock().clone()?;
        let (router, under_way) = instance?.front()?;
        process.is_alive().then_some((process, router, under_way))
    }

    /// The way to a process that writes rooms, or to where one will run again, for who is no process himself.
    pub(super) fn writer(&self, number: u64) -> Transport {
        let at = usize::try_from(number).unwrap_or_default() % self.of_a_tier;
        self.net.way(self.nodes.len(), false, &self.address(at))
    }

    /// The processes that run, and their place among the others.
    pub(super) fn running(&self) -> Vec<(IncarnationId, Arc<Registry>)> {
        let running = self.nodes.iter().filter_map(|node| node.running.lock().clone()?.instance);
        running.map(|instance| instance.ground().registry()).collect()
    }

    /// The rooms' names, as the store has them.
    pub(super) fn names(&self) -> Names {
        Names::new(Arc::clone(&self.store) as _, Arc::new(Chance::of(self.seed, "names")), ROOM_LOG)
    }

    /// Does something for as long as it is to last.
    pub(super) async fn suffer(&self, Planned { for_ms, fault, .. }: &Planned) {
        self.weather.begin(fault.clone());
        self.weather.count(fault.name());
        let hit = self.hit(fault);
        if fault.kills() {
            self.killed(&hit).await;
        } else if fault.stops() {
            self.stopped(&hit).await;
        }
        nap(*for_ms).await;
        self.weather.end(fault);
        for at in hit {
            self.nodes[at].wanted.send_replace(true);
            if let Some(process) = self.nodes[at].process() {
                process.go_on();
            }
        }
    }

    /// Does to nodes what is done to nodes; which are to go on when it is over.
    fn hit(&self, fault: &Fault) -> Vec<usize> {
        match *fault {
            Fault::Killed(at, steps) => self.kill(at, steps),
            Fault::AllKilled(steps) => (0..self.nodes.len()).flat_map(|at| self.kill(at, steps)).collect(),
            Fault::Stopped(at, steps) => {
                if let Some(process) = self.nodes[at].process() {
                    process.stop_after(steps);
                }
                vec![at]
            }
            Fault::Leaves(at) => self.leave(at),
            Fault::Replaced(at) => {
                self.nodes[at].next.fetch_xor(true, Ordering::Relaxed);
                self.leave(at)
            }
            Fault::ClockJumps(at, by_ms) => {
                *self.nodes[at].off_ms.lock() += by_ms;
                if let Some(process) = self.nodes[at].process() {
                    process.clock.jump(by_ms);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn kill(&self, at: usize, steps: u64) -> Vec<usize> {
        self.nodes[at].wanted.send_replace(false);
        if let Some(process) = self.nodes[at].process() {
            process.kill_after(steps);
        }
        vec![at]
    }

    /// Waits until these are dead; who doesn't take so many steps dies after a while.
    async fn killed(&self, nodes: &[usize]) {
        for process in nodes.iter().filter_map(|at| self.nodes[*at].process()) {
            if tokio::time::timeout(DIES, process.ended()).await.is_err() {
                process.kill();
            }
        }
    }

    /// Waits until these are stopped; who doesn't take so many steps is after a while.
    async fn stopped(&self, nodes: &[usize]) {
        for process in nodes.iter().filter_map(|at| self.nodes[*at].process()) {
            let mut stopped = process.stopped();
            if tokio::time::timeout(DIES, stopped.wait_for(|stopped| *stopped)).await.is_err() {
                process.stop();
            }
        }
    }

    fn leave(&self, at: usize) -> Vec<usize> {
        let Some(Running { process, instance: Some(instance) }) = self.nodes[at].running.lock().clone() else {
            return Vec::new();
        };
        self.nodes[at].wanted.send_replace(false);
        self.weather.note(&process.name, "leaves");
        tasks::spawn_in(&process.owner(), {
            let (process, leaks) = (Arc::clone(&process), Arc::clone(&self.leaks));
            async move {
                if let Some(mut kept) = instance.leave().await {
                    // As the product does, it waits for its tasks.
                    let ends = Instant::now() + ENDS;
                    while !process.unfinished().is_empty() && Instant::now() < ends {
                        nap(LOOK_MS).await;
                    }
                    kept.extend(process.unfinished().iter().map(|by| format!("the task of {by}")));
                    leaks.lock().extend(kept.iter().map(|kept| format!("{} keeps {kept}", process.name)));
                }
                process.kill();
            }
        });
        vec![at]
    }

    /// Everything is off, for good.
    pub(super) fn off(&self) {
        for node in &self.nodes {
            node.wanted.send_replace(false);
            if let Some(process) = node.process() {
                process.kill();
            }
        }
    }

    /// A process that nobody asks, and its ground, on this cluster's store.
    pub(super) async fn aside(self: &Arc<Self>, run: u64) -> (Arc<Process>, Ground) {
        let name = format!("aside run {run}");
        let clock = SimClock::new(self.began, self.off_ms);
        let process = Process::new(name.clone(), Arc::clone(&self.weather), clock, (Chance::of(self.seed, &name), 0));
        let chance = Chance::of(self.seed, &format!("store of {name}"));
        let parts = (Arc::clone(&self.weather), Arc::clone(&process));
        let place = Place {
            node: self.nodes.len(),
            next: false,
            kind: kind::POLITY,
            address: String::new(),
            net: Arc::clone(&self.net),
            store: Arc::new(SimStore::new(Arc::clone(&self.store), parts, chance, (false, false))),
            bus: Arc::new(self.exchange.join(&name, self.nodes.len(), false)),
            tight: self.tight,
            caches: self.caches,
        };
        let ground = Ground::lay(&process, place).await;
        (process, ground)
    }

    /// All leave in order, those first who answer clients; waits until they have. What those kept that left in order, then and before.
    pub(super) async fn end(&self) -> Vec<String> {
        if self.weather.counts().contains_key("calls lost") {
            // Work that no request waits for is under way as long as the call that it waits for.
            tokio::time::sleep(CALLS_LAST).await;
        }
        for at in (0..self.nodes.len()).rev() {
            let process = self.nodes[at].process();
            self.leave(at);
            if let Some(process) = process {
                process.ended().await;
            }
        }
        std::mem::take(&mut self.leaks.lock())
    }

    /// Nothing goes wrong any more: waits until all that was left is finished.
    pub(super) async fn recover(&self) {
        self.all_ready().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
