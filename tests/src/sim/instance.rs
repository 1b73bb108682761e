//! The processes of both tiers, each built of the real parts on a simulated ground, as the composition root builds them.

use std::{sync::Arc, time::Duration};

use polity_accounts::Accounts;
use polity_bus::Bus;
use polity_client_api::{Api, Limits, Parts, Tenants};
use polity_cluster::{
    Forward, Peers, Routed,
    digest::{Flush, Follow, Writers},
    kind,
};
use polity_core::{Clock, TenantId, sync_token::TokenKey, tasks};
use polity_log::{Env, Moved};
use polity_platform::config::RateLimits;
use polity_room_engine::build::SigningIdentity;
use polity_room_state::{Deps, Service};
use polity_store::Store;
use polity_sync::{
    engine::{AnswerBudget, ChangedUsers, Engine, Own, SentMembers, SettingsCache, UnreadCounts},
    ephemeral::Ephemeral,
    follow::Known,
    live::{Hub, Interest},
    read::{self, StoredRow},
};
use ruma_common::{OwnedServerName, RoomVersionId};

use super::{
    NEIGHBOUR, NEXT_DOOR, SERVER, TENANT,
    ground::{Ground, Heard},
    requests::{Requests, UnderWay},
};

/// Idle logs that stay loaded: few, so that some are unloaded and loaded again.
const LOADED: usize = 4;
/// Bytes of rows and nodes that are kept: all. Which ones a full cache lets go isn't the same each time.
const READ: u64 = 1 << 23;
/// How often idle logs are looked for.
const SWEEP: Duration = Duration::from_secs(3);
/// How long a process takes to leave, at most.
const LEAVES: Duration = Duration::from_secs(5);

struct OneTenant(SigningIdentity);

impl polity_room_state::Tenant for OneTenant {
    fn identity(&self) -> &SigningIdentity {
        &self.0
    }
}

struct AllTenants([Arc<OneTenant>; 2]);

impl polity_room_state::Tenants for AllTenants {
    fn tenant(&self, id: TenantId) -> Option<Arc<dyn polity_room_state::Tenant>> {
        let at = TENANTS.iter().position(|(tenant, _)| *tenant == id)?;
        Some(Arc::clone(&self.0[at]) as _)
    }
}

/// Who is on the cluster.
const TENANTS: [(TenantId, &str); 2] = [(TENANT, SERVER), (NEIGHBOUR, NEXT_DOOR)];

fn server_name(name: &str) -> OwnedServerName {
    OwnedServerName::try_from(name).expect("a server name")
}

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
}

// === impl Instance ===

impl Instance {
    /// A process that writes rooms. Must be called in a task of it.
    pub(super) fn rooms(ground: Ground) -> Self {
        let identity = |name| SigningIdentity::from_seed(server_name(name), "1", &[3; 32]).expect("a key");
        let tenants = TENANTS.map(|(_, name)| Arc::new(OneTenant(identity(name))));
        let deps = Deps::new(
            Arc::clone(&ground.store),
            Arc::clone(&ground.bus),
            Arc::clone(&ground.clock),
            Arc::clone(&ground.random),
            Arc::new(AllTenants(tenants)),
            Arc::clone(&ground.names),
            READ,
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
        let moved: Arc<dyn Moved> = Arc::new(Heard(Arc::clone(&ground.heads), Arc::clone(&ground.journal)));
        let env: Env = ground.env(moved);
        let (marks, random) = (Arc::clone(&ground.marks), Arc::clone(&ground.random));
        let accounts = Accounts::new(&env, marks, &ground.bus, random, true, LOADED).expect("cheap passwords");
        let accounts = Arc::new(accounts);
        let engine = Arc::new(engine(&ground, &accounts, (Arc::clone(&interest), writers)));
        hear(&ground, &engine, receiver, &known);
        ground.open::<Forward<polity_proto::room_state::room_state_server::RoomStateServer<Service>>>(None);
        ground.tell(Some(known as Arc<dyn Follow>));
        ground.watch(accounts.uses().recover());
        let following = Arc::clone(&ground.bus);
        tasks::spawn(async move { flush.run(&*following).await });
        let peers = Peers::new(ground.connect());
        let rooms = Routed::transport(Arc::clone(&ground.live), peers, kind::ROOM_STATE);
        let api = Api::new(parts(&ground, &accounts, engine, rooms));
        let (works, done_for) = (Arc::clone(&accounts), Arc::clone(&api));
        tasks::spawn(async move { works.work(done_for).await });
        let sweeps = Arc::clone(&accounts);
        tasks::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeps.uses().sweep();
            }
        });
        let router = polity_client_api::router(Arc::clone(&api));
        Self::Clients(ground, Clients { router, requests: Requests::default(), accounts, api })
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

    /// Finishes what is under way, as a process does that is told to end.
    pub(super) async fn leave(&self) {
        let ground = self.ground();
        ground.presence.leave();
        ground.stop.cancel();
        let ended = match self {
            Self::Rooms(_, service) => service.drain(LEAVES).await,
            Self::Clients(_, Clients { accounts, api, requests, .. }) => {
                requests.end(LEAVES).await;
                accounts.drain(&**api, LEAVES).await
            }
        };
        ground.journal.tell_last(&*ground.bus);
        if ended {
            // What isn't left in order others find closed.
            let _ = ground.registry.leave_after(|| ground.journal.end()).await;
        }
    }
}

fn engine(
    ground: &Ground,
    accounts: &Arc<Accounts>,
    (interest, writers): (Arc<Interest<StoredRow>>, Writers),
) -> Engine {
    let (store, names) = (Arc::clone(&ground.store), Arc::clone(&ground.names));
    let rooms = read::Rooms::new(store, names, Arc::clone(&ground.heads), Arc::clone(&interest), &writers, READ);
    Engine {
        store: Arc::clone(&ground.store),
        accounts: Arc::clone(accounts),
        rooms: Arc::new(rooms),
        heads: Arc::clone(&ground.heads),
        own: Own::new(Arc::clone(&ground.marks), 1 << 20),
        sent_members: SentMembers::new(1 << 20),
        unread: UnreadCounts::new(1000, 1 << 20),
        settings: SettingsCache::new(1000),
        changed_users: ChangedUsers::new(1 << 20),
        answers: AnswerBudget::new(1 << 30),
        interest,
        ephemeral: Arc::new(Ephemeral::new(u32::from_le_bytes(ground.random.bytes()))),
        writers,
        clock: Arc::clone(&ground.clock),
        random: Arc::clone(&ground.random),
        stop: ground.stop.clone(),
    }
}

/// Gives news to who listens.
fn hear(ground: &Ground, engine: &Engine, receiver: Box<dyn polity_bus::Receiver>, known: &Arc<Known>) {
    let hub = Hub {
        interest: Arc::clone(&engine.interest),
        ephemeral: Arc::clone(&engine.ephemeral),
        rooms: Arc::clone(&engine.rooms),
        store: Arc::clone(&ground.store) as Arc<dyn Store>,
        clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        bus: Arc::clone(&ground.bus) as Arc<dyn Bus>,
        known: Some(Arc::clone(known)),
    };
    tasks::spawn(hub.run(receiver));
}

fn parts(ground: &Ground, accounts: &Arc<Accounts>, engine: Arc<Engine>, rooms: polity_proto::Transport) -> Parts {
    let tenant = |(id, name)| polity_client_api::Tenant {
        id,
        server_name: server_name(name),
        public_baseurl: format!("https://{name}"),
        token_key: Arc::new(TokenKey::derive(&[7; 32], id)),
    };
    Parts {
        tenants: Tenants::new(TENANTS.map(|one| Arc::new(tenant(one)))),
        accounts: Arc::clone(accounts),
        engine,
        rooms,
        bus: Arc::clone(&ground.bus),
        max_body_bytes: 1 << 20,
        default_room_version: RoomVersionId::V12,
        open_registration: true,
        shared_secret: None,
        public_list_without_auth: true,
        limits: Limits::new(&RateLimits { enabled: false, ..RateLimits::default() }),
    }
}
