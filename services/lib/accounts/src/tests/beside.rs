//! Two processes that serve the same users at once, on one store: whoever is asked writes, and nobody notices.

use std::time::{Duration, Instant};

use polity_log::read;

use super::*;
use crate::record;

/// Two processes, beside each other.
async fn two() -> [Process; 2] {
    let world = World::new();
    [world.beside(1).await, world.beside(2).await]
}

async fn epoch(world: &dyn Store, key: LogKey) -> (u64, i64) {
    let head = read::head(world, key, Seq::ZERO, Consistency::Serial).await.unwrap().unwrap().head;
    (head.seq.get(), head.epoch.get())
}

#[tokio::test]
async fn a_thousand_changes_by_turns_need_no_fence_and_fail_nobody() {
    let [one, two] = two().await;
    let user = user_id!("@a:b");
    registered(&one.accounts, user).await;
    let store = Arc::clone(&one.accounts.store);
    let (before, _) = epoch(&*store, record::log(TENANT, user)).await;
    let began = Instant::now();
    for n in 0..1_000 {
        let accounts = if n % 2 == 0 { &one.accounts } else { &two.accounts };
        accounts.set_account_data(TENANT, user, ("", "m.x"), n.to_string().into_bytes()).await.unwrap();
    }
    let took = began.elapsed();
    println!("1,000 changes by turns took {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(epoch(&*store, record::log(TENANT, user)).await, (before + 1_000, 1));
    for accounts in [&one.accounts, &two.accounts] {
        assert_eq!(accounts.account_data(TENANT, user, "", "m.x").await.unwrap(), Some(b"999".to_vec()));
    }
}

#[tokio::test]
async fn changes_at_once_are_all_there() {
    let processes = two().await;
    let user = user_id!("@a:b");
    registered(&processes[0].accounts, user).await;
    let began = Instant::now();
    let writers = (0..8_usize).map(|writer| {
        let accounts = Arc::clone(&processes[writer % 2].accounts);
        async move {
            for n in 0..40 {
                let name = format!("m.{writer}.{n}");
                accounts.set_account_data(TENANT, user, ("", &name), b"1".to_vec()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    println!("320 changes at once took {:?}", began.elapsed());
    let (data, _) = processes[1].accounts.account_data_now(TENANT, user).await.unwrap();
    assert_eq!(data.len(), 320);
}

#[tokio::test]
async fn nobody_is_refused_by_what_another_process_has_changed_since() {
    let [one, two] = two().await;
    let user = user_id!("@a:b");
    // The second one has the record in memory, as that of nobody.
    assert!(two.accounts.set_account_data(TENANT, user, ("", "m.x"), b"0".to_vec()).await.is_err());
    registered(&one.accounts, user).await;
    two.accounts.set_account_data(TENANT, user, ("", "m.x"), b"1".to_vec()).await.unwrap();
    let new = NewAccount { password: Some("other".into()), ..NewAccount::default() };
    assert!(two.accounts.register(TENANT, user, new).await.is_err(), "the name is taken");
    // And the other way round: what is gone is gone.
    one.accounts.deactivate(TENANT, user).await.unwrap();
    assert!(two.accounts.check_password(TENANT, user, "password".into()).await.is_err());
}

#[tokio::test]
async fn device_lists_of_both_are_in_one_log() {
    let processes = two().await;
    let users: Vec<_> = (0..10).map(|n| UserId::parse(format!("@u{n}:b")).unwrap()).collect();
    for user in &users {
        new_account(&processes[0].accounts, TENANT, user, "password").await;
    }
    let before = processes[0].accounts.device_lists_position(TENANT).await.unwrap();
    let told = (0..200_usize).map(|n| {
        let (accounts, user) = (&processes[n % 2].accounts, &users[n % 10]);
        async move { accounts.tell_lists(TENANT, user).await.unwrap() }
    });
    futures_util::future::join_all(told).await;
    let (changed, _) = processes[1].accounts.device_lists_after(TENANT, before).await.unwrap().unwrap();
    assert_eq!(changed.len(), 10);
}
