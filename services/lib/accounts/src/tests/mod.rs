//! Users on a store in memory.

use std::sync::Arc;

use polity_bus::{Bus, LocalBus};
use polity_core::{IncarnationId, Life, LogKey, ManualClock, Position, Seq, SystemRandom, TenantId};
use polity_log::{Env, Moved, Registry};
use polity_store::{Consistency, Store};
use polity_store_local::LocalStore;
use ruma_common::{UserId, device_id, server_name, user_id};

use super::*;

mod devices;
mod inbox;
mod keys;

struct Deaf;

impl Moved for Deaf {
    fn moved(&self, _key: LogKey, _seq: Seq) {}
}

async fn accounts() -> Arc<Accounts> {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let store: Arc<dyn Store> = LocalStore::memory(clock.clone(), &SystemRandom).unwrap();
    let registry = Registry::join(Arc::clone(&store), IncarnationId::new([1; 16]), "test", "a").await.unwrap();
    let env = Env { store, registry, moved: Arc::new(Deaf), clock };
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    Arc::new(Accounts::new(&env, &bus, Arc::new(SystemRandom), true, 100).unwrap())
}

const TENANT: TenantId = TenantId::new(1);

async fn registered(accounts: &Accounts, user: &UserId) -> LoggedIn {
    accounts.register(TENANT, user, Some("password".into()), false).await.unwrap();
    accounts.log_in(TENANT, user, NewDevice::default()).await.unwrap()
}

#[tokio::test]
async fn of_a_hundred_registrations_of_one_name_one_wins() {
    let accounts = accounts().await;
    let tries = (0..100).map(|_| {
        let accounts = Arc::clone(&accounts);
        async move { accounts.register(TENANT, user_id!("@a:b"), None, false).await }
    });
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(Error::UserInUse))));
}

#[tokio::test]
async fn account_data_and_device_lists_are_told_by_position() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    registered(&accounts, user).await;
    let before = accounts.record_position(TENANT, user).await.unwrap();
    for value in [b"1", b"2"] {
        accounts.set_account_data(TENANT, user, ("!r", "m.tag"), value.to_vec()).await.unwrap();
    }
    let (changes, at) = accounts.account_data_after(TENANT, user, before).await.unwrap();
    assert_eq!(changes.iter().map(|c| c.value.clone()).collect::<Vec<_>>(), [Some(b"2".to_vec())]);
    assert_eq!(accounts.record_position(TENANT, user).await.unwrap(), at);
    let lists = accounts.device_lists_position(TENANT).await.unwrap();
    accounts.set_device_keys(TENANT, user, device_id!("D"), b"{}".to_vec()).await.unwrap();
    let (users, at) = accounts.device_lists_after(TENANT, lists).await.unwrap();
    assert_eq!((users, at > lists), (vec![user.to_owned()], true));
    assert!(matches!(accounts.profile(TENANT, user_id!("@x:b"), "displayname").await, Err(Error::NoAccount)));
    assert_eq!(accounts.profile(TENANT, user, "displayname").await.unwrap().as_deref(), Some("a"));
}
