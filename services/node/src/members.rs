//! This process among those that share its store: what it answers them, how it calls them, and whom it closes.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use http::{Request, Response};
use polity_cluster::{
    ClusterService, Connect, Forward, Live, Member, Peers, Presence, Routed, Watch, digest::Journal, kind, ping,
};
use polity_log::{Asked, Recover};
use polity_platform::{
    config::Limits,
    grpc::{self, Connector, Services},
    lifecycle::{Lifecycle, exit},
    ops::Ready,
};
use polity_proto::Transport;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use crate::{failure::Failure, ground::Ground, ports::InternalPort, wait::until_there};

/// A process that ends and has the same name is waited for for so long,
const ENDING: Duration = Duration::from_secs(10);
/// and asked so often.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module. A process whose store is its own is alone.
pub(crate) struct Members {
    live: Arc<Live>,
    peers: Arc<Peers>,
    ways: Arc<Ways>,
    presence: Arc<Presence>,
    journal: Arc<Journal>,
    /// Where it answers.
    port: Option<InternalPort>,
}

/// The ways to other processes, and to this one.
struct Ways {
    address: Box<str>,
    /// Known once it is known what this process answers.
    own: OnceLock<Transport>,
    others: Option<Connector>,
}

/// What a process answers others, until it ends.
pub(crate) struct Answering {
    stop: CancellationToken,
    ended: Option<JoinHandle<()>>,
}

// === impl Members ===

impl Members {
    /// Among those that are on the same ground.
    pub(crate) fn new(ground: &Ground, port: Option<InternalPort>) -> Self {
        let this = &ground.this;
        let others = port.as_ref().map(|port| Connector::new(Arc::clone(&port.identity)));
        let ways = Arc::new(Ways { address: this.address.clone(), own: OnceLock::new(), others });
        let connect: Arc<dyn Connect> = connect(&ways);
        let live = Live::new(this.incarnation);
        let presence = Presence::new(Arc::clone(&ground.bus), this.clone(), Arc::clone(&live));
        let journal = Arc::clone(ground.digests.journal());
        Self { live, peers: Peers::new(connect), ways, presence, journal, port }
    }

    /// What every process answers.
    pub(crate) fn services(&self) -> Services {
        Services::default().with_always(ClusterService::new(Arc::clone(&self.journal)).server())
    }

    /// The ways to all others.
    pub(crate) fn connect(&self) -> Arc<dyn Connect> {
        connect(&self.ways)
    }

    /// The way to those who write rooms.
    pub(crate) fn rooms(&self, own: &Services) -> Transport {
        if self.port.is_none() {
            return own.transport();
        }
        Routed::transport(Arc::clone(&self.live), Arc::clone(&self.peers), kind::ROOM_STATE)
    }

    /// The service that `make` gives, of which one process at a time does what a call asks.
    pub(crate) fn forward<S>(&self, ground: &Ground, make: impl Fn(Asked) -> S + Send + Sync + 'static) -> Forward<S>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        Forward::new(Arc::clone(&self.live), Arc::clone(&self.peers), Arc::clone(&ground.registry), make)
    }

    /// Says and hears who is there, and closes who is dead; `uses` are the logs that this process can finish for others. A process that
    /// was closed itself ends: it can write nothing any more.
    pub(crate) fn watch(&self, ground: &Ground, uses: Vec<Arc<dyn Recover>>, life: &Lifecycle) {
        if self.port.is_none() {
            return;
        }
        let watch = Watch {
            registry: Arc::clone(&ground.registry),
            store: Arc::clone(&ground.store),
            this: ground.this.clone(),
            live: Arc::clone(&self.live),
            connect: connect(&self.ways),
            clock: Arc::clone(&ground.clock),
            uses,
        };
        let (presence, stop) = (Arc::clone(&self.presence), life.stop());
        life.essential("presence", async move {
            tokio::select! { () = stop.cancelled() => {}, () = presence.run() => {} }
        });
        // Whoever takes long to end is still alive: it answers those who ask.
        let stop = life.stop();
        life.essential("watch", async move {
            tokio::select! { () = stop.cancelled() => {}, () = watch.run() => {} }
        });
    }

    /// Refuses to go on beside a process that has the same name and answers: each would close the other. One that is just ending is
    /// waited for; one that doesn't answer is dead, and what it left is finished.
    pub(crate) async fn expect_no_namesake(&self, ground: &Ground, stop: &CancellationToken) -> Result<(), Failure> {
        let (began, this) = (Instant::now(), &ground.this);
        while self.port.is_some() && !stop.is_cancelled() {
            let earlier = || async { Ok(ground.registry.predecessors(&this.node).await?) };
            let earlier = until_there("the store", stop, earlier).await?.unwrap_or_default();
            // Who had this one's address is gone.
            let elsewhere = |member: &&Member| !member.address.is_empty() && member.address != this.address;
            let mut alive = None;
            for member in earlier.iter().filter(elsewhere) {
                if ping(self.connect().to(&member.address), member.incarnation).await {
                    alive = Some(member);
                }
            }
            let Some(other) = alive else { break };
            if began.elapsed() >= ENDING {
                let (name, address) = (&this.node, &other.address);
                let message =
                    format!("{address} answers as {name}, too: cluster.node_name must be another one in each process");
                ground.registry.leave().await?;
                return Err(Failure::new(exit::USAGE, message));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Answers others from now on.
    pub(crate) fn answer(
        &mut self,
        services: Services,
        limits: &Limits,
        ready: &Ready,
        drain: Duration,
    ) -> Result<Answering, Failure> {
        let _ = self.ways.own.set(services.transport());
        let stop = CancellationToken::new();
        let Some(InternalPort { reserved, identity, .. }) = self.port.take() else {
            return Ok(Answering { stop, ended: None });
        };
        let server = grpc::Server::new(reserved.listen()?, &identity, limits);
        let serving = server.serve(services, ready.clone(), stop.clone(), drain);
        #[expect(clippy::disallowed_methods, reason = "ends after the tasks that the end waits for")]
        let ended = Some(tokio::spawn(serving));
        Ok(Answering { stop, ended })
    }

    /// Lets nobody ask this process any more who can ask another one.
    pub(crate) fn leave(&self) {
        self.presence.leave();
    }
}

// === impl Ways ===

impl Ways {
    fn to(&self, address: &str) -> Transport {
        let own = if *address == *self.address { self.own.get() } else { None };
        match (own, &self.others) {
            (Some(own), _) => own.clone(),
            (None, Some(others)) => others.to(address),
            (None, None) => nobody(),
        }
    }
}

/// The way to others of a process that is alone, and calls nobody.
fn nobody() -> Transport {
    Services::default().transport()
}

// === impl Answering ===

impl Answering {
    /// Answers no more.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if let Some(ended) = self.ended {
            // A panic in it was told when it happened.
            let _ = ended.await;
        }
    }
}

fn connect(ways: &Arc<Ways>) -> Arc<dyn Connect> {
    // What this process answers is built on the ways, and is one of them: only [`Members`] holds them, so that all of it can end.
    let ways = Arc::downgrade(ways);
    Arc::new(move |address: &str| ways.upgrade().map_or_else(nobody, |ways| ways.to(address)))
}
