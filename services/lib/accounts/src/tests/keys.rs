//! End-to-end keys.

use polity_core::{Classified as _, ErrorKind};

use super::*;

const CURVE: &str = "signed_curve25519";

fn key(n: usize) -> OneTimeKey {
    OneTimeKey { algorithm: CURVE.into(), key_id: format!("k{n:03}"), key: format!("\"{n}\"").into_bytes() }
}

#[tokio::test]
async fn each_one_time_key_is_handed_out_once_in_order_and_then_the_fallback() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let keys: Vec<_> = (0..50).map(key).collect();
    accounts.upload_one_time_keys(session.device(), keys.clone()).await.unwrap();
    accounts.upload_one_time_keys(session.device(), keys).await.unwrap();
    let other = OneTimeKey { key: b"{}".to_vec(), ..key(3) };
    let refused = accounts.upload_one_time_keys(session.device(), vec![other]).await;
    assert!(matches!(refused, Err(Error::KeyExists(id)) if id == "k003"));
    let fallback = OneTimeKey { key_id: "fallback".into(), ..key(0) };
    accounts.set_fallback_keys(session.device(), vec![fallback]).await.unwrap();
    let KeyCounts { one_time: counts, unused_fallback: unused } = accounts.key_counts(session.device()).await.unwrap();
    assert_eq!((counts[CURVE], unused.len()), (50, 1));
    let claims = (0..100).map(|_| accounts.claim_one_time_key(TENANT, user, &session.device_id, CURVE));
    let mut ids: Vec<String> =
        futures_util::future::join_all(claims).await.into_iter().map(|claim| claim.unwrap().unwrap().0).collect();
    ids.sort();
    let expected = (0..50).map(|_| "fallback".to_owned()).chain((0..50).map(|n| format!("k{n:03}")));
    assert_eq!(ids, expected.collect::<Vec<_>>());
    assert!(
        accounts.key_counts(session.device()).await.unwrap().unused_fallback.is_empty(),
        "the fallback key is used"
    );
}

#[tokio::test]
async fn a_name_that_no_store_takes_is_refused_and_the_record_goes_on() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let long = OneTimeKey { algorithm: "x".repeat(8_180), ..key(0) };
    let too_large = |done: Result<(), Error>| assert_eq!(done.unwrap_err().kind(), ErrorKind::TooLarge);
    too_large(accounts.upload_one_time_keys(session.device(), vec![long.clone()]).await);
    too_large(accounts.set_fallback_keys(session.device(), vec![long]).await);
    // Not checked but by the log, which says it before anything is appended.
    let name = "x".repeat(9_000);
    too_large(accounts.set_account_data(TENANT, user, ("", &name), b"{}".to_vec()).await);
    accounts.set_account_data(TENANT, user, ("", "m.direct"), b"{}".to_vec()).await.unwrap();
    accounts.upload_one_time_keys(session.device(), vec![key(0)]).await.unwrap();
}

#[tokio::test]
async fn a_repeated_upload_brings_no_claimed_key_back() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let keys: Vec<_> = (0..5).map(key).collect();
    accounts.upload_one_time_keys(session.device(), keys.clone()).await.unwrap();
    let claim = || accounts.claim_one_time_key(TENANT, user, &session.device_id, CURVE);
    assert_eq!(claim().await.unwrap().unwrap().0, "k000");
    // The answer to the upload was lost.
    accounts.upload_one_time_keys(session.device(), keys).await.unwrap();
    assert_eq!(accounts.key_counts(session.device()).await.unwrap().one_time[CURVE], 4);
    // A client that began anew may come to the same id with another key.
    let again = OneTimeKey { key: b"\"other\"".to_vec(), ..key(0) };
    accounts.upload_one_time_keys(session.device(), vec![again.clone()]).await.unwrap();
    let mut claimed = Vec::new();
    while let Some(key) = claim().await.unwrap() {
        claimed.push(key);
    }
    let expected: Vec<_> = (1..5).map(key).chain([again]).map(|key| (key.key_id, key.key)).collect();
    assert_eq!(claimed, expected);
}

#[tokio::test]
async fn keys_are_capped_and_old_claimed_ones_forgotten() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let upload =
        |from: usize, to: usize| accounts.upload_one_time_keys(session.device(), (from..to).map(key).collect());
    upload(0, 500).await.unwrap();
    assert!(matches!(upload(500, 501).await, Err(Error::TooLarge(_))));
    for _ in 0..500 {
        accounts.claim_one_time_key(TENANT, user, &session.device_id, CURVE).await.unwrap().unwrap();
    }
    upload(500, 1000).await.unwrap();
    for n in 500..1000 {
        assert_eq!(
            accounts.claim_one_time_key(TENANT, user, &session.device_id, CURVE).await.unwrap().unwrap().0,
            key(n).key_id
        );
    }
    upload(1000, 1001).await.unwrap();
    upload(999, 1001).await.unwrap();
    assert_eq!(accounts.key_counts(session.device()).await.unwrap().one_time[CURVE], 1);
    let partition = polity_store::values_of![TENANT, user.as_str(), session.device().place(), CURVE];
    let all = polity_store::Bounds::all();
    let page =
        accounts.store.scan(&polity_store::schema::ONE_TIME_KEYS, partition, all, 5000, Consistency::Quorum).await;
    assert_eq!(page.unwrap().rows.len(), 502, "the head, 500 claimed, one unclaimed");
}

#[tokio::test]
async fn the_same_fallback_key_again_stays_used() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let set = |n| accounts.set_fallback_keys(session.device(), vec![key(n)]);
    set(1).await.unwrap();
    assert_eq!(accounts.claim_one_time_key(TENANT, user, &session.device_id, CURVE).await.unwrap().unwrap().0, "k001");
    set(1).await.unwrap();
    assert!(accounts.key_counts(session.device()).await.unwrap().unused_fallback.is_empty());
    set(2).await.unwrap();
    assert_eq!(accounts.key_counts(session.device()).await.unwrap().unused_fallback, [CURVE]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_that_claim_at_once_never_give_a_key_twice() {
    let world = World::new();
    let (one, two) = (world.start(1).await.accounts, world.start(2).await.accounts);
    let user = user_id!("@a:b");
    let session = registered(&one, user).await;
    one.upload_one_time_keys(session.device(), (0..100).map(key).collect()).await.unwrap();
    let claims = (0..200).map(|n| {
        let (accounts, device_id) = (Arc::clone(if n % 2 == 0 { &one } else { &two }), session.device_id.clone());
        polity_core::tasks::spawn(async move {
            accounts.claim_one_time_key(TENANT, user, &device_id, CURVE).await.unwrap().map(|(id, _)| id)
        })
    });
    let claimed = futures_util::future::join_all(claims).await;
    let mut ids: Vec<String> = claimed.into_iter().filter_map(|id| id.unwrap()).collect();
    ids.sort();
    assert_eq!(ids, (0..100).map(|n| format!("k{n:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_object_is_nobodys_identity_key() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    for (stored, shown) in [(&b"[\"@a:b\",\"D\",[],{},{}]"[..], 0), (b"5", 0), (b"{\"a\":1}", 1)] {
        accounts.set_device_keys(session.device(), stored.to_vec()).await.unwrap();
        assert_eq!(accounts.device_keys(TENANT, user).await.unwrap().len(), shown);
    }
}

#[tokio::test]
async fn keys_of_another_life_of_the_store_are_void_and_never_come_back() {
    let memory = LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap();
    let accounts_on = |store: &Arc<LocalStore>, incarnation| {
        let world = World::on(|_| Arc::clone(store) as _);
        async move { world.start(incarnation).await.accounts }
    };
    let before = accounts_on(&memory, 1).await;
    let user = user_id!("@a:b");
    let session = registered(&before, user).await;
    before.upload_one_time_keys(session.device(), (0..5).map(key).collect()).await.unwrap();
    let claim = |accounts: Arc<Accounts>| {
        let device = session.device_id.clone();
        async move { accounts.claim_one_time_key(TENANT, user, &device, CURVE).await.unwrap().map(|(id, _)| id) }
    };
    assert_eq!(claim(Arc::clone(&before)).await.unwrap(), "k000");
    // What is put back may be older than keys that were given.
    let restored = memory.copy().unwrap();
    polity_store::life::begin(&*restored, IncarnationId::new([9; 16])).await.unwrap();
    let restored = restored.copy().unwrap();
    assert_ne!(restored.incarnation(), memory.incarnation());
    let after = accounts_on(&restored, 2).await;
    assert_eq!(after.key_counts(session.device()).await.unwrap().one_time[CURVE], 0);
    assert_eq!(claim(Arc::clone(&after)).await, None);
    after.upload_one_time_keys(session.device(), (0..7).map(key).collect()).await.unwrap();
    assert_eq!(after.key_counts(session.device()).await.unwrap().one_time[CURVE], 2, "old ones again are no keys");
    let given = [claim(Arc::clone(&after)).await, claim(Arc::clone(&after)).await, claim(after).await];
    assert_eq!(given.map(|id| id.unwrap_or_default()), ["k005", "k006", ""]);
}
