//! The part that answers clients.

use std::{sync::Arc, time::Duration};

use axum::Router;
use polity_accounts::Accounts;
use polity_bus::{Bus, Receiver};
use polity_client_api::{Api, Limits, Parts};
use polity_cluster::{Connect, digest::Writers};
use polity_core::sync_token::RoomsHeld;
use polity_log::Recover;
use polity_platform::{
    config::Config,
    lifecycle::{Lifecycle, exit},
};
use polity_proto::Transport;
use polity_sync::{
    engine::{AnswerBudget, Engine, Own, SentMembers, SettingsCache, UnreadCounts},
    ephemeral::Ephemeral,
    follow::Known,
    live::{Hub, Interest},
    read::{self, StoredRow},
};
use ruma_common::RoomVersionId;
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, ground::Ground};

/// Bytes of rows and state nodes that readers keep.
const READ_CACHE: u64 = 64 << 20;
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
/// News that may wait to be given to who listens.
const NEWS: usize = 65_536;

/// See the module.
pub(crate) struct Clients {
    accounts: Arc<Accounts>,
    engine: Arc<Engine>,
    api: Arc<Api>,
}

// === impl Clients ===

impl Clients {
    /// On this ground, with `rooms` as the way to who writes rooms, and `connect` to everybody who writes anything.
    pub(crate) fn new(
        config: &Config,
        ground: &Ground,
        rooms: Transport,
        connect: Arc<dyn Connect>,
        life: &Lifecycle,
    ) -> Result<Self, Failure> {
        let (env, cheap) = (ground.env(), config.passwords.cheap_hash_for_tests);
        let (marks, random) = (Arc::clone(&ground.marks), Arc::clone(&ground.random));
        let accounts = Accounts::new(&env, marks, &ground.bus, random, cheap, LOADED_RECORDS);
        let accounts = Arc::new(accounts.map_err(Failure::software)?);
        let (subscriptions, receiver) = ground.bus.receiver(NEWS);
        let interest = Interest::new(subscriptions);
        let known = || {
            let (heads, marks) = (Arc::clone(&ground.heads), Arc::clone(&ground.marks));
            Arc::new(Known { heads, marks, interest: Arc::clone(&interest) })
        };
        let (writers, known) = ground.digests.follow((&ground.registry, &ground.bus), connect, known, life);
        ground.digests.tell(&ground.bus, known.clone().map(|known| known as _), life);
        let engine = Arc::new(engine(config, ground, &accounts, (interest, writers), life.stop()));
        hear(&engine, &ground.bus, (receiver, known), life);
        let api = Api::new(Parts {
            tenants: ground.tenants.for_clients(),
            accounts: Arc::clone(&accounts),
            engine: Arc::clone(&engine),
            rooms,
            bus: Arc::clone(&ground.bus),
            max_body_bytes: config.limits.request_body_bytes,
            default_room_version: RoomVersionId::try_from(config.rooms.default_version.as_str())
                .map_err(|error| Failure::new(exit::USAGE, error))?,
            open_registration: config.registration.enabled,
            shared_secret: config.registration.shared_secret.get().map(str::to_owned),
            public_list_without_auth: config.rooms.public_list_without_auth,
            limits: Limits::new(&config.rate_limits),
        });
        Ok(Self { accounts, engine, api })
    }

    /// What clients ask.
    pub(crate) fn routes(&self) -> Router {
        polity_client_api::router(Arc::clone(&self.api))
    }

    pub(crate) fn recover(&self) -> Vec<Arc<dyn Recover>> {
        self.accounts.uses().recover()
    }

    /// Does what changes of users owe, while requests are served.
    pub(crate) fn work(&self, life: &Lifecycle) {
        let (accounts, rooms, stop) = (Arc::clone(&self.accounts), self.api.room_work(), life.stop());
        life.essential("work", async move {
            tokio::select! { () = stop.cancelled() => {}, () = accounts.work(rooms) => {} }
        });
    }

    /// Unloads what is idle, and tells how full the caches are.
    pub(crate) fn sweep(&self) {
        self.accounts.uses().sweep();
        self.engine.tell_sizes();
    }

    /// Does what users owe to rooms, then ends all logs; whether in time.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.accounts.drain(&*self.api.room_work(), limit).await
    }
}

fn engine(
    config: &Config,
    ground: &Ground,
    accounts: &Arc<Accounts>,
    (interest, writers): (Arc<Interest<StoredRow>>, Writers),
    stop: CancellationToken,
) -> Engine {
    let (store, names) = (Arc::clone(&ground.store), Arc::clone(&ground.names));
    let rooms = read::Rooms::new(store, names, Arc::clone(&ground.heads), Arc::clone(&interest), &writers, READ_CACHE);
    Engine {
        store: Arc::clone(&ground.store),
        accounts: Arc::clone(accounts),
        rooms: Arc::new(rooms),
        heads: Arc::clone(&ground.heads),
        own: Own::new(Arc::clone(&ground.marks), OWN),
        sent_members: SentMembers::new(SENT_MEMBERS),
        unread: UnreadCounts::new(UNREAD, TALLIES),
        settings: SettingsCache::new(SETTINGS),
        rooms_held: RoomsHeld::default(),
        answers: AnswerBudget::new(config.limits.answers_bytes),
        interest,
        ephemeral: Arc::new(Ephemeral::new(u32::from_le_bytes(ground.random.bytes()))),
        writers,
        clock: Arc::clone(&ground.clock),
        random: Arc::clone(&ground.random),
        stop,
    }
}

/// Gives news to who listens.
fn hear(
    engine: &Engine,
    bus: &Arc<dyn Bus>,
    (receiver, known): (Box<dyn Receiver>, Option<Arc<Known>>),
    life: &Lifecycle,
) {
    let hub = Hub {
        interest: Arc::clone(&engine.interest),
        ephemeral: Arc::clone(&engine.ephemeral),
        rooms: Arc::clone(&engine.rooms),
        store: Arc::clone(&engine.store),
        clock: Arc::clone(&engine.clock),
        bus: Arc::clone(bus),
        known,
    };
    let stop = life.stop();
    life.essential("news", async move {
        tokio::select! { () = stop.cancelled() => {}, () = hub.run(receiver) => {} }
    });
}
