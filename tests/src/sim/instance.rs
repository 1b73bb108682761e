//! The processes of both tiers, each built of the real parts on a simulated ground, as the composition root builds them.

use std::{sync::Arc, time::Duration};

use polity_accounts::Accounts;
use polity_client_api::Api;
use polity_cluster::{
    Forward, Peers, Routed,
    digest::{Flush, Follow, Writers},
    kind,
};
use polity_core::tasks;
use polity_room_state::{Deps, Service};
use polity_sync::{
    engine::Engine,
    follow::{Heard, Known},
    live::Interest,
};

use super::{
    NEIGHBOUR, NEXT_DOOR, SERVER, TENANT,
    ground::Ground,
    requests::{Requests, UnderWay},
};
use crate::parts;

/// Idle logs that stay loaded: few, so that some are unloaded and loaded again.
const LOADED: usize = 4;
/// How often idle logs are looked for.
const SWEEP: Duration = Duration::from_secs(3);
/// How long a process takes to leave, at most.
const LEAVES: Duration = Duration::from_secs(5);

/// Who is on the cluster.
pub(super) const TENANTS: [parts::Name; 2] = [(TENANT, SERVER), (NEIGHBOUR, NEXT_DOOR)];

/// A process that runs.
pub(super) enum Instance {
    /// Writes rooms.
    Rooms(Ground, Service),
    /// Answers clients.
    Clients(Ground, Clients),
}

/// What a process has that answers clients.
pub(super) struct Clients {
    router: axum::Router,
    requests: Requests,
    accounts: Arc<Accounts>,
    api: Arc<Api>,
    engine: Arc<Engine>,
}

// === impl Instance ===

impl Instance {
    /// A process that writes rooms. Must be called in a task of it.
    pub(super) fn rooms(ground: Ground) -> Self {
        let deps = Deps::new(
            Arc::clone(&ground.store),
            Arc::clone(&ground.bus),
            Arc::clone(&ground.clock),
            Arc::clone(&ground.random),
            parts::signers(&TENANTS),
            Arc::clone(&ground.names),
            ground.caches.read,
        );
        let service = Service::new(deps, ground.env(Arc::clone(&ground.journal) as _), LOADED);
        let (live, registry) = (Arc::clone(&ground.live), Arc::clone(&ground.registry));
        let (asked, peers) = (service.clone(), Peers::new(ground.connect()));
        ground.open(Some(Forward::new(live, peers, registry, move |how| asked.asked(how))));
        ground.tell(None);
        ground.watch(vec![service.recover()]);
        let sweeps = service.clone();
        tasks::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeps.sweep();
            }
        });
        Self::Rooms(ground, service)
    }

    /// A process that answers clients. Must be called in a task of it.
    pub(super) fn clients(ground: Ground) -> Self {
        let (subscriptions, receiver) = ground.bus.receiver(10_000);
        let interest = Interest::new(subscriptions);
        let (heads, marks) = (Arc::clone(&ground.heads), Arc::clone(&ground.marks));
        let known = Arc::new(Known { heads, marks, interest: Arc::clone(&interest) });
        let flush = Flush::new(Arc::clone(&ground.registry), ground.connect(), Arc::clone(&known) as _);
        let writers = Writers::asked_by(Arc::clone(&flush));
        let (heads, journal) = (Arc::clone(&ground.heads), Some(Arc::clone(&ground.journal)));
        let env = ground.env(Arc::new(Heard { heads, journal }));
        let (marks, random) = (Arc::clone(&ground.marks), Arc::clone(&ground.random));
        let accounts = Accounts::new(&env, marks, &ground.bus, random, true, LOADED).expect("cheap passwords");
        let accounts = Arc::new(accounts);
        let engine = ground.reading(&accounts, (interest, writers)).engine();
        parts::hear(&engine, &ground.bus, receiver, Some(Arc::clone(&known)));
        ground.open::<Forward<polity_proto::room_state::room_state_server::RoomStateServer<Service>>>(None);
        ground.tell(Some(known as Arc<dyn Follow>));
        ground.watch(accounts.uses().recover());
        let following = Arc::clone(&ground.bus);
        tasks::spawn(async move { flush.run(&*following).await });
        let peers = Peers::new(ground.connect());
        let rooms = Routed::transport(Arc::clone(&ground.live), peers, kind::ROOM_STATE);
        let api = Api::new(parts::api(&TENANTS, Arc::clone(&engine), rooms, Arc::clone(&ground.bus)));
        let (works, done_for) = (Arc::clone(&accounts), api.room_work());
        tasks::spawn(async move { works.work(done_for).await });
        let sweeps = Arc::clone(&accounts);
        tasks::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeps.uses().sweep();
            }
        });
        let router = polity_client_api::router(Arc::clone(&api));
        Self::Clients(ground, Clients { router, requests: Requests::default(), accounts, api, engine })
    }

    /// What it stands on.
    pub(super) fn ground(&self) -> &Ground {
        match self {
            Self::Rooms(ground, _) | Self::Clients(ground, _) => ground,
        }
    }

    /// Where a request of a client is answered, which is under way as long as the second is held. A process that leaves takes none.
    pub(super) fn front(&self) -> Option<(axum::Router, UnderWay)> {
        match self {
            Self::Rooms(..) => None,
            Self::Clients(_, clients) => Some((clients.router.clone(), clients.requests.begin()?)),
        }
    }

    /// Finishes what is under way, as a process does that is told to end; what it keeps that it should have let go, once
    /// nothing is under way.
    pub(super) async fn leave(&self) -> Option<Vec<String>> {
        let ground = self.ground();
        ground.presence.leave();
        ground.stop.cancel();
        let mut answered = true;
        let ended = match self {
            Self::Rooms(_, service) => service.drain(LEAVES).await,
            Self::Clients(_, Clients { accounts, api, requests, .. }) => {
                answered = requests.end(LEAVES).await;
                accounts.drain(&*api.room_work(), LEAVES).await
            }
        };
        ground.journal.tell_last(&*ground.bus);
        if !ended {
            return None;
        }
        // What isn't left in order others find closed.
        let last = ground.journal.end();
        let owes = !ground.registry.leave_after(|| last).await.unwrap_or(false);
        (last.is_some() && !owes && answered).then(|| self.kept())
    }

    /// What no request and no log holds any more, and is still there.
    fn kept(&self) -> Vec<String> {
        let Self::Clients(_, clients) = self else { return Vec::new() };
        let Engine { answers, interest, .. } = &*clients.engine;
        let kept = [(answers.taken(), "bytes of answers"), (interest.sessions() as u64, "who waits")];
        kept.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {n}")).collect()
    }
}
