//! What both tiers stand on.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use polity_accounts::Accounts;
use polity_bus::Bus;
use polity_cluster::{
    ClusterService, Connect, Live, Member, Presence, Watch,
    digest::{Follow, Journal, Writers, publish},
};
use polity_core::{Clock, IncarnationId, Random, sync_token::RoomsHeld, tasks};
use polity_log::{Env, Moved, Names, Recover, Registry, recover_until_done};
use polity_proto::local;
use polity_room_state::ROOM_LOG;
use polity_store::{MarkMoved, MarkedStore, Marks, Store};
use polity_sync::{heads::HeadMap, live::Interest, read::StoredRow};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, ServiceExt as _, service_fn};

use super::{
    later,
    net::{Door, Net},
    process::Process,
};
use crate::parts::{Caches, Reading};

/// Between two tries to begin, while the store doesn't answer.
const AGAIN: Duration = Duration::from_millis(100);

/// Logs of a slot of the registry, and entries of a journal, where there is little room.
const TIGHT: (u64, usize) = (3, 24);
/// And rooms of a token.
const TIGHT_TOKEN: RoomsHeld = RoomsHeld { inline: 1, moved: 1 };

/// See the module.
#[derive(Clone)]
pub(super) struct Ground {
    node: usize,
    next: bool,
    process: Arc<Process>,
    net: Arc<Net>,
    this: Member,
    pub(super) store: Arc<dyn Store>,
    pub(super) marks: Arc<Marks>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) registry: Arc<Registry>,
    pub(super) journal: Arc<Journal>,
    pub(super) names: Arc<Names>,
    pub(super) heads: Arc<HeadMap>,
    pub(super) live: Arc<Live>,
    pub(super) presence: Arc<Presence>,
    rooms_held: RoomsHeld,
    pub(super) caches: Caches,
    /// The process is told to end: it watches nobody any more, and recovers nothing.
    pub(super) stop: CancellationToken,
}

/// Where a process of a kind is, and what it stands on.
pub(super) struct Place {
    pub(super) node: usize,
    /// The process is of the next version.
    pub(super) next: bool,
    pub(super) kind: &'static str,
    pub(super) address: String,
    pub(super) net: Arc<Net>,
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<dyn Bus>,
    /// Whether there is little room for what is bounded.
    pub(super) tight: bool,
    /// And how much for what was read.
    pub(super) caches: Caches,
}

impl Ground {
    /// Joins the processes that share the store, once it lets this one.
    pub(super) async fn lay(process: &Arc<Process>, place: Place) -> Self {
        let random: Arc<dyn Random> = Arc::clone(&process.chance) as _;
        let node = format!("node-{}", place.node);
        let (this, registry) = loop {
            let mut this = Member::new(IncarnationId::new(random.bytes()), place.kind, &node, &place.address);
            this.version += i64::from(place.next);
            let store = Arc::clone(&place.store);
            let joined = match place.tight {
                true => Registry::join_with(store, &this, TIGHT.0).await,
                false => Registry::join(store, &this).await,
            };
            match joined {
                Ok(registry) => break (this, registry),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let journal = match place.tight {
            true => Journal::keeping(this.incarnation, TIGHT.1),
            false => Journal::new(this.incarnation),
        };
        let tells: Arc<dyn MarkMoved> = match place.next {
            true => Arc::new(later::Tells(Arc::clone(&journal))),
            false => Arc::clone(&journal) as _,
        };
        let (store, marks) = MarkedStore::telling(place.store, Some(tells));
        let names = Arc::new(Names::new(Arc::clone(&store), Arc::clone(&random), ROOM_LOG));
        let live = Live::new(this.incarnation);
        let presence = Presence::new(Arc::clone(&place.bus), this.clone(), Arc::clone(&live));
        Self {
            node: place.node,
            next: place.next,
            process: Arc::clone(process),
            net: place.net,
            this,
            store,
            marks,
            bus: place.bus,
            clock: Arc::clone(&process.clock) as _,
            random,
            registry,
            journal,
            names,
            heads: Arc::new(HeadMap::new(place.caches.heads, false)),
            live,
            presence,
            rooms_held: if place.tight { TIGHT_TOKEN } else { RoomsHeld::default() },
            caches: place.caches,
            stop: CancellationToken::new(),
        }
    }

    /// Which run of a process this is, and its place among the others.
    pub(super) fn registry(&self) -> (IncarnationId, Arc<Registry>) {
        (self.this.incarnation, Arc::clone(&self.registry))
    }

    /// What logs stand on.
    pub(super) fn env(&self, moved: Arc<dyn Moved>) -> Env {
        let (store, registry, clock) = (Arc::clone(&self.store), Arc::clone(&self.registry), Arc::clone(&self.clock));
        Env { store, registry, moved, clock, shared: true }
    }

    /// Of what an engine is made here.
    pub(super) fn reading(
        &self,
        accounts: &Arc<Accounts>,
        (interest, writers): (Arc<Interest<StoredRow>>, Writers),
    ) -> Reading {
        Reading {
            store: Arc::clone(&self.store),
            marks: Arc::clone(&self.marks),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            names: Arc::clone(&self.names),
            heads: Arc::clone(&self.heads),
            interest,
            writers,
            accounts: Arc::clone(accounts),
            stop: self.stop.clone(),
            rooms_held: self.rooms_held,
            caches: self.caches,
        }
    }

    /// The ways to others.
    pub(super) fn connect(&self) -> Arc<dyn Connect> {
        let (net, node, next) = (Arc::clone(&self.net), self.node, self.next);
        Arc::new(move |address: &str| net.way(node, next, address))
    }

    /// Answers others from now on: what every process answers, and `service`.
    pub(super) fn open<S>(&self, service: Option<S>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let signs = ClusterService::new(Arc::clone(&self.journal)).server();
        let both = service_fn(move |call: Request<Body>| {
            let (service, signs) = (service.clone(), signs.clone());
            async move {
                match service {
                    Some(service) if !call.uri().path().starts_with("/polity.cluster") => service.oneshot(call).await,
                    _ => signs.oneshot(call).await,
                }
            }
        });
        let process = Arc::clone(&self.process);
        let door = Door { node: self.node, next: self.next, process, service: local(both) };
        self.net.open(&self.this.address, door);
    }

    /// Tells others what this process writes.
    pub(super) fn tell(&self, own: Option<Arc<dyn Follow>>) {
        tasks::spawn(publish(Arc::clone(&self.journal), Arc::clone(&self.bus), own));
    }

    /// Says that it is there, watches the others, and finishes what earlier runs left. A process that was closed ends.
    pub(super) fn watch(&self, uses: Vec<Arc<dyn Recover>>) {
        let (presence, stop) = (Arc::clone(&self.presence), self.stop.clone());
        tasks::spawn(async move { stop.run_until_cancelled(presence.run()).await });
        let watch = Watch {
            registry: Arc::clone(&self.registry),
            store: Arc::clone(&self.store),
            this: self.this.clone(),
            live: Arc::clone(&self.live),
            connect: self.connect(),
            clock: Arc::clone(&self.clock),
            uses: uses.clone(),
        };
        let (process, stop, net) = (Arc::clone(&self.process), self.stop.clone(), Arc::clone(&self.net));
        tasks::spawn(async move {
            // Who leaves closes himself: a look that was under way may find that.
            if stop.run_until_cancelled(watch.run()).await.is_some() && !stop.is_cancelled() {
                net.weather.closed(&process.name);
                process.kill();
            }
        });
        let (registry, node, process) = (Arc::clone(&self.registry), self.this.node.clone(), Arc::clone(&self.process));
        let stop = self.stop.clone();
        tasks::spawn(async move {
            let recovered = stop.run_until_cancelled(recover_until_done(&registry, &node, &uses)).await;
            if recovered.is_some_and(|recovered| recovered.is_err()) {
                process.kill();
            }
        });
    }
}
