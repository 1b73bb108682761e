//! Users on a store in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use polity_bus::{Bus, LocalBus};
use polity_core::{IncarnationId, Life, LogKey, ManualClock, Position, Seq, SystemRandom, TenantId};
use polity_log::{Env, Member, Moved, Registry, recover_all};
use polity_store::{Consistency, MarkedStore, Marks, Store};
use polity_store_local::LocalStore;
use ruma_common::{OwnedDeviceId, UserId, device_id, server_name, user_id};

use super::*;

mod account;
mod beside;
mod cross_signing;
mod devices;
mod failing;
mod inbox;
mod jobs;
mod keys;
mod lists;
mod shelf;

struct Deaf;

impl Moved for Deaf {
    fn moved(&self, _key: LogKey, _seq: Seq) {}
}

/// A store and what outlives a process that uses it.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    marks: Arc<Marks>,
}

/// Rooms that note what they are told, or (at first) can't be reached.
#[derive(Default)]
struct FakeRooms {
    told: Mutex<Vec<String>>,
    unreachable: AtomicBool,
    fails_for: Mutex<Vec<String>>,
}

impl FakeRooms {
    fn tell(&self, what: &str, user_id: &UserId) -> Result<(), Error> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(Error::Unfinished("nobody there".into()));
        }
        if self.fails_for.lock().iter().any(|fails| fails == user_id.as_str()) {
            return Err(Error::Unfinished("not for this one".into()));
        }
        self.told.lock().push(format!("{what} {user_id}"));
        Ok(())
    }
}

#[async_trait::async_trait]
impl RoomWork for FakeRooms {
    async fn profile_changed(&self, _tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.tell("profile", user_id)
    }

    async fn leave_rooms(&self, _tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.tell("leave", user_id)
    }
}

impl World {
    fn new() -> Self {
        Self::on(|store| store)
    }

    /// On a store that something stands before.
    fn on(wrapped: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let (store, marks) = MarkedStore::over(wrapped(LocalStore::memory(clock.clone(), &SystemRandom).unwrap()));
        Self { clock, store, marks }
    }

    /// A process of node `a`: the earlier ones are dead to it.
    async fn start(&self, incarnation: u8) -> Process {
        self.run(incarnation, "a", (Arc::clone(&self.store), Arc::clone(&self.marks)), false).await
    }

    /// A process of a node of its own, beside others.
    async fn beside(&self, incarnation: u8) -> Process {
        let own = MarkedStore::over(Arc::clone(&self.store));
        self.run(incarnation, &incarnation.to_string(), own, true).await
    }

    async fn run(
        &self,
        incarnation: u8,
        node: &str,
        (store, marks): (Arc<dyn Store>, Arc<Marks>),
        shared: bool,
    ) -> Process {
        let id = IncarnationId::new([incarnation; 16]);
        let this = Member::new(id, "test", node, "");
        let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
        let clock = self.clock.clone();
        let env = Env { store, registry: Arc::clone(&registry), moved: Arc::new(Deaf), clock, shared };
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let accounts = Arc::new(Accounts::new(&env, marks, &bus, Arc::new(SystemRandom), true, 100).unwrap());
        Process { registry, accounts }
    }
}

struct Process {
    registry: Arc<Registry>,
    accounts: Arc<Accounts>,
}

impl Process {
    /// Finishes what earlier processes left.
    async fn recover(&self) -> usize {
        recover_all(&self.registry, "a", &self.accounts.uses().recover()).await.unwrap()
    }
}

async fn accounts() -> Arc<Accounts> {
    World::new().start(1).await.accounts
}

const TENANT: TenantId = TenantId::new(1);

async fn new_account(accounts: &Accounts, tenant: TenantId, user: &UserId, password: &str) {
    let new = NewAccount { password: Some(password.into()), ..NewAccount::default() };
    assert!(accounts.register(tenant, user, new).await.unwrap().is_none());
}

async fn registered(accounts: &Accounts, user: &UserId) -> Session {
    new_account(accounts, TENANT, user, "password").await;
    logged_in(accounts, TENANT, user, NewDevice::default()).await.1
}

async fn logged_in(accounts: &Accounts, tenant: TenantId, user: &UserId, new: NewDevice) -> (LoggedIn, Session) {
    let account = accounts.entry(tenant, user, crate::account::NAME).await.unwrap().unwrap();
    let logged_in = accounts.log_in_to(tenant, user, &account, new).await.unwrap();
    let session = accounts.resolve(tenant, user.server_name(), &logged_in.access_token).await.unwrap();
    (logged_in, session)
}

#[tokio::test]
async fn account_data_and_device_lists_are_told_by_position() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let (_, before) = accounts.account_data_now(TENANT, user).await.unwrap();
    for value in [b"1", b"2"] {
        accounts.set_account_data(TENANT, user, ("!r", "m.tag"), value.to_vec()).await.unwrap();
    }
    let (changes, at) = accounts.account_data_after(TENANT, user, before).await.unwrap();
    assert_eq!(changes.iter().map(|c| c.value.clone()).collect::<Vec<_>>(), [Some(b"2".to_vec())]);
    assert_eq!(accounts.account_data_now(TENANT, user).await.unwrap().1, at);
    let lists = accounts.device_lists_position(TENANT).await.unwrap();
    accounts.set_device_keys(session.device(), b"{}".to_vec()).await.unwrap();
    let (users, at) = accounts.device_lists_after(TENANT, lists).await.unwrap().unwrap();
    assert_eq!((users, at > lists), ([(user.to_owned(), at)].into(), true));
    assert!(matches!(accounts.profile(TENANT, user_id!("@x:b")).await, Err(Error::NoAccount)));
    assert_eq!(accounts.profile(TENANT, user).await.unwrap().get("displayname").map(String::as_str), Some("a"));
}

#[tokio::test]
async fn account_data_has_an_end_and_less_of_it_makes_room() {
    let accounts = accounts().await;
    let (user, other) = (user_id!("@a:b"), user_id!("@other:b"));
    for user in [user, other] {
        registered(&accounts, user).await;
    }
    let set = |user, scope, n: usize, bytes: usize| {
        let accounts = Arc::clone(&accounts);
        async move { accounts.set_account_data(TENANT, user, (scope, &n.to_string()), vec![b'1'; bytes]).await }
    };
    let mut kept = 0;
    // Several at once: each is counted.
    for round in 0.. {
        let scope = if round % 2 == 0 { "" } else { "!room" };
        let all = futures_util::future::join_all((0..5).map(|n| set(user, scope, round * 5 + n, 256 * 1024))).await;
        let refused = all.iter().filter(|one| one.is_err()).count();
        assert!(all.into_iter().all(|one| matches!(one, Ok(()) | Err(Error::Full))));
        kept += 5 - refused;
        if refused > 0 {
            break;
        }
    }
    assert_eq!(kept, 31, "and their names");
    set(other, "", 0, 1).await.unwrap();
    assert!(matches!(set(user, "!another", 0, 256 * 1024).await, Err(Error::Full)));
    set(user, "", 0, 1).await.unwrap();
    set(user, "!another", 0, 256 * 1024).await.unwrap();
    assert!(matches!(set(user, "!another", 1, 256 * 1024).await, Err(Error::Full)));
    let all = accounts.account_data_now(TENANT, user).await.unwrap().0;
    let bytes: usize = all.iter().filter_map(|entry| entry.value.as_ref()).map(Vec::len).sum();
    assert_eq!(bytes, 31 * 256 * 1024 + 1);
}
