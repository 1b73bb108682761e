//! Users on a store in memory.

use std::sync::Arc;

use polity_bus::{Bus, LocalBus};
use polity_core::{IncarnationId, Life, LogKey, ManualClock, Position, Seq, SystemRandom, TenantId};
use polity_log::{Env, Moved, Registry};
use polity_store::Store;
use polity_store_local::LocalStore;
use ruma_common::{UserId, device_id, server_name, user_id};

use super::*;

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
async fn tokens_end_with_their_device_and_nothing_crosses_tenants() {
    let accounts = accounts().await;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    let session = registered(&accounts, user).await;
    let resolved = accounts.resolve(TENANT, server, &session.access_token).await.unwrap();
    assert_eq!((&*resolved.user_id, &resolved.device_id), (user, &session.device_id));
    assert!(accounts.resolve(TenantId::new(2), server, &session.access_token).await.is_err());
    assert!(accounts.resolve(TENANT, server_name!("c"), &session.access_token).await.is_err());
    assert!(accounts.resolve(TENANT, server, "plt.a.b.c").await.is_err());
    accounts.check_password(TENANT, user, "password".into()).await.unwrap();
    assert!(matches!(accounts.check_password(TENANT, user, "other".into()).await, Err(Error::WrongPassword)));
    assert!(matches!(
        accounts.check_password(TENANT, user_id!("@x:b"), "password".into()).await,
        Err(Error::WrongPassword)
    ));
    accounts.remove_devices(TENANT, user, &[session.device_id]).await.unwrap();
    assert!(matches!(accounts.resolve(TENANT, server, &session.access_token).await, Err(Error::UnknownToken(false))));
}

#[tokio::test]
async fn a_refresh_keeps_the_old_tokens_until_a_new_one_is_used() {
    let accounts = accounts().await;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    accounts.register(TENANT, user, None, false).await.unwrap();
    let first = accounts.log_in(TENANT, user, NewDevice { refresh: true, ..NewDevice::default() }).await.unwrap();
    let token = first.refresh_token.unwrap();
    accounts.refresh(TENANT, server, &token).await.unwrap();
    // The answer was lost: the client asks again, and still has its old token.
    accounts.resolve(TENANT, server, &first.access_token).await.unwrap();
    let second = accounts.refresh(TENANT, server, &token).await.unwrap();
    accounts.resolve(TENANT, server, &second.access_token).await.unwrap();
    assert!(accounts.resolve(TENANT, server, &first.access_token).await.is_err());
    assert!(accounts.refresh(TENANT, server, &token).await.is_err());
}

#[tokio::test]
async fn each_one_time_key_is_handed_out_once_in_order_and_then_the_fallback() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let device = registered(&accounts, user).await.device_id;
    let key = |n: usize| OneTimeKey {
        algorithm: "signed_curve25519".into(),
        key_id: format!("k{n:03}"),
        key: vec![b'"', b'"'],
    };
    let keys: Vec<_> = (0..50).map(key).collect();
    accounts.upload_one_time_keys(TENANT, user, &device, keys.clone()).await.unwrap();
    accounts.upload_one_time_keys(TENANT, user, &device, keys).await.unwrap();
    let other = OneTimeKey { key: b"{}".to_vec(), ..key(3) };
    let refused = accounts.upload_one_time_keys(TENANT, user, &device, vec![other]).await;
    assert!(matches!(refused, Err(Error::KeyExists(id)) if id == "k003"));
    let fallback = OneTimeKey { key_id: "fallback".into(), ..key(0) };
    accounts.set_fallback_keys(TENANT, user, &device, vec![fallback]).await.unwrap();
    let (counts, unused) = accounts.key_counts(TENANT, user, &device).await.unwrap();
    assert_eq!((counts["signed_curve25519"], unused.len()), (50, 1));
    let claims = (0..60).map(|_| accounts.claim_one_time_key(TENANT, user, &device, "signed_curve25519"));
    let mut ids: Vec<String> =
        futures_util::future::join_all(claims).await.into_iter().map(|claim| claim.unwrap().unwrap().0).collect();
    ids.sort();
    let expected = (0..10).map(|_| "fallback".to_owned()).chain((0..50).map(|n| format!("k{n:03}")));
    assert_eq!(ids, expected.collect::<Vec<_>>());
    assert!(accounts.key_counts(TENANT, user, &device).await.unwrap().1.is_empty(), "the fallback key is used");
}

#[tokio::test]
async fn messages_arrive_once_in_order_at_devices_that_exist() {
    let accounts = accounts().await;
    let (user, from) = (user_id!("@a:b"), (user_id!("@s:b"), device_id!("S")));
    let device = registered(&accounts, user).await.device_id;
    let message = |text: &str| Message { user_id: user.to_owned(), device_id: None, event: text.into() };
    for (txn, text) in [("1", "one"), ("2", "two"), ("1", "one")] {
        accounts.send_to_device(TENANT, (from.0, from.1, txn), vec![message(text)]).await.unwrap();
    }
    let unknown = Message { device_id: Some("X".into()), ..message("lost") };
    accounts.send_to_device(TENANT, (from.0, from.1, "3"), vec![unknown]).await.unwrap();
    let start = Position::new(Life::FIRST, Seq::ZERO);
    let (events, at) = accounts.inbox_after(TENANT, (user, &device), start).await.unwrap();
    assert_eq!(events, ["one", "two"]);
    assert_eq!(accounts.inbox_after(TENANT, (user, &device), at).await.unwrap(), (vec![], at));
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
