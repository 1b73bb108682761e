//! A record stays as large as its living devices make it.

use polity_store::{Bounds, schema, values_of};

use super::{failing::world, *};
use crate::{record, shelf};

fn key(algorithm: &str) -> Vec<OneTimeKey> {
    vec![OneTimeKey { algorithm: algorithm.into(), key_id: "1".into(), key: b"1".to_vec() }]
}

/// A device logs in and uploads keys of every kind.
async fn with_keys(accounts: &Accounts, user: &UserId, new: NewDevice, algorithm: &str) -> Session {
    let (_, session) = logged_in(accounts, TENANT, user, new).await;
    let device = session.device();
    accounts.set_device_keys(device, b"{}".to_vec()).await.unwrap();
    accounts.upload_one_time_keys(device, key(algorithm)).await.unwrap();
    accounts.set_fallback_keys(device, key(algorithm)).await.unwrap();
    let message = Message { user_id: user.to_owned(), device_id: Some(session.device_id.clone()), event: "{}".into() };
    accounts.send_to_device(device, "1", vec![message]).await.unwrap();
    session
}

fn named(device_id: &str) -> NewDevice {
    NewDevice { device_id: Some(device_id.into()), ..NewDevice::default() }
}

#[tokio::test]
async fn two_thousand_logins_leave_no_more_rows_than_a_few() {
    for worked_on in [true, false] {
        let accounts = accounts().await;
        let user = user_id!("@a:b");
        new_account(&accounts, TENANT, user, "password").await;
        let kept = with_keys(&accounts, user, NewDevice::default(), "kept").await;
        for n in 0..2000 {
            // Each with an algorithm that nobody else has.
            let session = with_keys(&accounts, user, NewDevice::default(), &n.to_string()).await;
            accounts.remove_devices(TENANT, user, &[session.device_id]).await.unwrap();
            if worked_on {
                assert!(accounts.settle_all(&FakeRooms::default()).await);
            }
        }
        let partition = values_of![TENANT, user.as_str()];
        let all = accounts.store.scan(&schema::USER_RECORD, partition, Bounds::all(), 10_000, Consistency::Quorum);
        let rows = all.await.unwrap().rows.len();
        // Four kinds of rows for each place; beside them the account, the profile and the work that is owed.
        let most = if worked_on { 4 * 33 + 8 } else { 4 * 32 * 6 };
        assert!(rows <= most, "{rows} rows");
        for kind in [record::kind::DEVICE, record::kind::JOB] {
            let read = record::entries(&*accounts.store, TENANT, user, kind, None).await.unwrap().len();
            assert!(read <= 32, "{read} of {kind}");
        }
        assert_eq!(accounts.devices(TENANT, user).await.unwrap().len(), 1);
        assert_eq!(accounts.device_keys(TENANT, user).await.unwrap().len(), 1);
        assert_eq!(accounts.key_counts(kept.device()).await.unwrap().one_time["kept"], 1);
    }
}

#[tokio::test]
async fn lives_that_ended_leave_no_heads_of_their_keys() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    new_account(&accounts, TENANT, user, "password").await;
    let mut names = std::collections::BTreeSet::new();
    for n in 0..20 {
        let session = with_keys(&accounts, user, named("D"), "x").await;
        assert_eq!(accounts.key_counts(session.device()).await.unwrap().one_time["x"], 1, "{n}");
        let claimed = accounts.claim_one_time_key(TENANT, user, "D".into(), "x").await.unwrap();
        assert_eq!(claimed, Some(("1".to_owned(), b"1".to_vec())));
        names.extend([session.device().name(), session.device().place()]);
        accounts.remove_devices(TENANT, user, &["D".into()]).await.unwrap();
        assert!(accounts.settle_all(&FakeRooms::default()).await);
    }
    let mut rows = 0;
    for name in names {
        let partition = values_of![TENANT, user.as_str(), name, "x"];
        let all = accounts.store.scan(&schema::ONE_TIME_KEYS, partition, Bounds::all(), 100, Consistency::Quorum);
        rows += all.await.unwrap().rows.len();
    }
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn a_place_is_free_only_once_it_is_cleared_up_and_what_comes_late_reaches_no_later_life() {
    let (world, failing) = world();
    let accounts = world.start(1).await.accounts;
    let user = user_id!("@a:b");
    new_account(&accounts, TENANT, user, "password").await;
    let first = with_keys(&accounts, user, named("D"), "x").await;
    accounts.remove_devices(TENANT, user, &["D".into()]).await.unwrap();
    failing.drops.store(0, Ordering::SeqCst);
    assert!(!accounts.settle_all(&FakeRooms::default()).await);
    let second = with_keys(&accounts, user, named("D"), "x").await;
    assert_ne!(first.device().place(), second.device().place(), "the first one's inbox is still there");

    // Killed there: the next process finds what is owed.
    failing.drops.store(usize::MAX, Ordering::SeqCst);
    let process = world.start(2).await;
    process.recover().await;
    let accounts = process.accounts;
    assert!(accounts.settle_all(&FakeRooms::default()).await);
    accounts.remove_devices(TENANT, user, &["D".into()]).await.unwrap();
    let (_, third) = logged_in(&accounts, TENANT, user, named("D")).await;
    assert_eq!(first.device().place(), third.device().place());
    assert!(third.life != first.life && third.life != second.life);
    assert_eq!(accounts.key_counts(third.device()).await.unwrap(), KeyCounts::default());
    assert!(accounts.device_keys(TENANT, user).await.unwrap().is_empty());
    accounts.set_device_keys(third.device(), b"{\"third\":1}".to_vec()).await.unwrap();
    accounts.upload_one_time_keys(third.device(), key("x")).await.unwrap();
    accounts.set_fallback_keys(third.device(), key("y")).await.unwrap();

    // Of the first life: its clearing up once more, and each of its writes.
    accounts.drop_leftovers_of(first.device()).await.unwrap();
    assert!(accounts.set_device_keys(first.device(), b"{}".to_vec()).await.is_err());
    assert!(accounts.set_fallback_keys(first.device(), key("y")).await.is_err());
    assert!(accounts.upload_one_time_keys(first.device(), key("x")).await.is_err());
    assert_eq!(accounts.key_counts(first.device()).await.unwrap(), KeyCounts::default());
    let KeyCounts { one_time, unused_fallback } = accounts.key_counts(third.device()).await.unwrap();
    assert_eq!((one_time["x"], &*unused_fallback), (1, &["y".to_owned()][..]));
    assert!(accounts.device_keys(TENANT, user).await.unwrap()[0].1.contains_key("third"));
}

#[tokio::test]
async fn a_shelf_has_an_end_and_logging_in_and_out_does_not_reach_it() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    new_account(&accounts, TENANT, user, "password").await;
    for _ in 0..200 {
        logged_in(&accounts, TENANT, user, named("D")).await;
        accounts.remove_devices(TENANT, user, &["D".into()]).await.unwrap();
    }
    let same = (0..).map(|n| n.to_string()).filter(|id| shelf::key(id.as_str().into()) == shelf::key("D".into()));
    let (mut refused, mut living) = (0, Vec::new());
    for id in same.take(70) {
        match accounts.log_in(TENANT, user, "password".into(), named(&id)).await {
            Ok(_) => living.push(OwnedDeviceId::from(id)),
            Err(error) => {
                assert!(matches!(error, Error::TooLarge(_)), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((living.len(), refused), (64, 6));
    accounts.remove_devices(TENANT, user, &living).await.unwrap();
    logged_in(&accounts, TENANT, user, named("D")).await;
}
