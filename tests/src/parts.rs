//! The real parts put together, as the composition root (`services/node`) does, by whoever brings store, bus and clock of his own:
//! all that needs no configuration, with caches as small as a test's.

use std::sync::Arc;

use polity_accounts::Accounts;
use polity_bus::{Bus, Receiver};
use polity_client_api::{Limits, Parts, Tenants};
use polity_cluster::digest::Writers;
use polity_core::{
    Clock, Random, TenantId,
    sync_token::{RoomsHeld, TokenKey},
    tasks,
};
use polity_log::Names;
use polity_platform::config::RateLimits;
use polity_proto::Transport;
use polity_room_engine::build::SigningIdentity;
use polity_store::{Marks, Store};
use polity_sync::{
    engine::{AnswerBudget, Engine, Own, SentMembers, SettingsCache, UnreadCounts},
    ephemeral::Ephemeral,
    follow::Known,
    heads::HeadMap,
    live::{Hub, Interest},
    read::{Rooms, StoredRow},
};
use ruma_common::{OwnedServerName, RoomVersionId};
use tokio_util::sync::CancellationToken;

/// How much is kept in memory of what was read. Which entries a full cache lets go is the same each time only if it is of one part, which
/// those are that expect at most 62: so either nothing is let go, or nearly everything.
#[derive(Debug, Clone, Copy)]
pub struct Caches {
    /// Bytes of rows and nodes.
    pub read: u64,
    /// Heads of logs.
    pub heads: usize,
    /// Settings of users, and their unread counts.
    users: usize,
    /// Bytes of each other cache of what belongs to a user.
    kept: u64,
}

impl Caches {
    /// All that a test reads, also where a cache is of many parts, as it is on many cores.
    pub const LARGE: Self = Self { read: 1 << 26, heads: 10_000, users: 1_000, kept: 1 << 24 };
    /// Next to nothing.
    pub const SMALL: Self = Self { read: 1 << 13, heads: 4, users: 2, kept: 1 << 11 };
}

/// A tenant: its id and its server name.
pub type Name = (TenantId, &'static str);

/// Tenants, as who writes rooms knows them.
struct Signers(Vec<(TenantId, Arc<Signer>)>);

struct Signer(SigningIdentity);

impl polity_room_state::Tenant for Signer {
    fn identity(&self) -> &SigningIdentity {
        &self.0
    }
}

impl polity_room_state::Tenants for Signers {
    fn tenant(&self, id: TenantId) -> Option<Arc<dyn polity_room_state::Tenant>> {
        let (_, signer) = self.0.iter().find(|(tenant, _)| *tenant == id)?;
        Some(Arc::clone(signer) as _)
    }
}

/// Tenants for who writes rooms.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn signers(names: &[Name]) -> Arc<dyn polity_room_state::Tenants> {
    Arc::new(Signers(names.iter().map(|(id, name)| (*id, Arc::new(Signer(identity(name))))).collect()))
}

/// With what the tenant of this name signs.
///
/// # Panics
/// When the name is none.
#[must_use]
pub fn identity(name: &str) -> SigningIdentity {
    SigningIdentity::from_seed(server_name(name), "1", &[3; 32]).expect("a key")
}

fn server_name(name: &str) -> OwnedServerName {
    OwnedServerName::try_from(name).expect("a server name")
}

/// How sync tokens of a tenant are sealed.
#[must_use]
pub fn token_key(tenant: TenantId) -> Arc<TokenKey> {
    Arc::new(TokenKey::derive(&[7; 32], tenant))
}

/// Of what who answers clients makes its engine.
#[expect(missing_docs, reason = "the fields of Engine")]
pub struct Reading {
    pub store: Arc<dyn Store>,
    pub marks: Arc<Marks>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub names: Arc<Names>,
    pub heads: Arc<HeadMap>,
    pub interest: Arc<Interest<StoredRow>>,
    pub writers: Writers,
    pub accounts: Arc<Accounts>,
    pub stop: CancellationToken,
    pub rooms_held: RoomsHeld,
    pub caches: Caches,
}

impl Reading {
    /// The engine.
    #[must_use]
    pub fn engine(self) -> Arc<Engine> {
        let Self { store, marks, clock, random, names, heads, interest, writers, accounts, stop, rooms_held, caches } =
            self;
        let rooms =
            Rooms::new(Arc::clone(&store), names, Arc::clone(&heads), Arc::clone(&interest), &writers, caches.read);
        Arc::new(Engine {
            store,
            accounts,
            rooms: Arc::new(rooms),
            heads,
            own: Own::new(marks, caches.kept),
            sent_members: SentMembers::new(caches.kept),
            unread: UnreadCounts::new(caches.users, caches.kept),
            settings: SettingsCache::new(caches.users),
            rooms_held,
            answers: AnswerBudget::new(1 << 30),
            interest,
            ephemeral: Arc::new(Ephemeral::new(u32::from_le_bytes(random.bytes()))),
            writers,
            clock,
            random,
            stop,
        })
    }
}

/// Gives news to who listens, until the process ends.
pub fn hear(engine: &Engine, bus: &Arc<dyn Bus>, receiver: Box<dyn Receiver>, known: Option<Arc<Known>>) {
    let hub = Hub {
        interest: Arc::clone(&engine.interest),
        ephemeral: Arc::clone(&engine.ephemeral),
        rooms: Arc::clone(&engine.rooms),
        store: Arc::clone(&engine.store),
        clock: Arc::clone(&engine.clock),
        bus: Arc::clone(bus),
        known,
    };
    tasks::spawn(hub.run(receiver));
}

/// Of what the client API is made: anybody may register, as often as he likes.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn api(names: &[Name], engine: Arc<Engine>, rooms: Transport, bus: Arc<dyn Bus>) -> Parts {
    let tenant = |(id, name): &Name| polity_client_api::Tenant {
        id: *id,
        server_name: server_name(name),
        public_baseurl: format!("https://{name}"),
        token_key: token_key(*id),
    };
    Parts {
        tenants: Tenants::new(names.iter().map(|one| Arc::new(tenant(one)))),
        accounts: Arc::clone(&engine.accounts),
        engine,
        rooms,
        bus,
        max_body_bytes: 1 << 20,
        default_room_version: RoomVersionId::V12,
        open_registration: true,
        shared_secret: None,
        public_list_without_auth: true,
        limits: Limits::new(&RateLimits { enabled: false, ..RateLimits::default() }),
    }
}
