//! What changes owe is done, also when the process that made them dies.

use super::*;

#[tokio::test]
async fn a_profile_reaches_rooms_after_a_kill_and_the_newest_once() {
    let world = World::new();
    let user = user_id!("@a:b");
    let rooms = FakeRooms::default();
    {
        let accounts = world.start(1).await.accounts;
        new_account(&accounts, TENANT, user, "password").await;
        for name in ["one", "two", "three"] {
            accounts.set_profile(TENANT, user, "displayname", Some(name.into())).await.unwrap();
        }
        // Killed before anything else.
    }
    let process = world.start(2).await;
    assert!(process.recover().await > 0);
    assert!(process.accounts.settle_all(&rooms).await);
    assert_eq!(*rooms.told.lock(), ["profile @a:b"]);
    assert_eq!(
        process.accounts.profile(TENANT, user).await.unwrap().get("displayname").map(String::as_str),
        Some("three")
    );
    // Nothing is owed any more: not by the next process either.
    let next = world.start(3).await;
    next.recover().await;
    assert!(next.accounts.settle_all(&rooms).await);
    assert_eq!(rooms.told.lock().len(), 1);
}

#[tokio::test]
async fn work_that_cannot_be_done_yet_is_done_later() {
    let (accounts, rooms) = (accounts().await, FakeRooms::default());
    let user = user_id!("@a:b");
    new_account(&accounts, TENANT, user, "password").await;
    accounts.set_profile(TENANT, user, "avatar_url", Some("mxc://b/x".into())).await.unwrap();
    rooms.unreachable.store(true, Ordering::SeqCst);
    assert!(!accounts.settle_all(&rooms).await);
    rooms.unreachable.store(false, Ordering::SeqCst);
    assert!(accounts.settle_all(&rooms).await);
    assert_eq!(*rooms.told.lock(), ["profile @a:b"]);
}

#[tokio::test]
async fn a_change_of_devices_is_told_though_the_process_dies_before() {
    let world = World::new();
    let user = user_id!("@a:b");
    let before = {
        let accounts = world.start(1).await.accounts;
        let session = registered(&accounts, user).await;
        let before = accounts.device_lists_position(TENANT).await.unwrap();
        // The row of the change, and no more.
        let owed = vec![crate::jobs::owe(crate::jobs::LISTS)];
        accounts.change_of(session.device(), owed).await.unwrap();
        before
    };
    let process = world.start(2).await;
    process.recover().await;
    assert!(process.accounts.settle_all(&FakeRooms::default()).await);
    let (users, _) = process.accounts.device_lists_after(TENANT, before).await.unwrap().unwrap();
    assert_eq!(users.into_keys().collect::<Vec<_>>(), [user]);
}

#[tokio::test]
async fn changes_of_one_user_that_wait_together_are_one_row() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    registered(&accounts, user).await;
    let before = accounts.device_lists_position(TENANT).await.unwrap();
    let told = (0..40).map(|_| accounts.tell_lists(TENANT, user));
    futures_util::future::try_join_all(told).await.unwrap();
    let after = accounts.device_lists_position(TENANT).await.unwrap();
    assert!(after.get() - before.get() < 5, "{before} to {after}");
}

#[tokio::test]
async fn the_worker_does_what_is_owed_by_itself() {
    let (accounts, rooms) = (accounts().await, Arc::new(FakeRooms::default()));
    let user = user_id!("@a:b");
    new_account(&accounts, TENANT, user, "password").await;
    let work = Arc::clone(&accounts).work(Arc::clone(&rooms) as _);
    let change = async {
        accounts.set_profile(TENANT, user, "displayname", Some("x".into())).await.unwrap();
        while rooms.told.lock().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! { () = work => panic!("it never ends"), () = change => {} }
}

#[tokio::test]
async fn a_user_who_changes_much_is_looked_at_by_one_at_a_time() {
    let (accounts, rooms) = (accounts().await, Arc::new(FakeRooms::default()));
    let (busy, other) = (user_id!("@a:b"), user_id!("@c:b"));
    for user in [busy, other] {
        new_account(&accounts, TENANT, user, "password").await;
    }
    for n in 0..100 {
        accounts.set_profile(TENANT, busy, "displayname", Some(n.to_string())).await.unwrap();
    }
    accounts.set_profile(TENANT, other, "displayname", Some("x".into())).await.unwrap();
    let turn = accounts.pending.take(std::time::Duration::MAX).unwrap();
    assert_eq!(turn.user_id, busy);
    // More of it while it is done: it comes after.
    accounts.set_profile(TENANT, busy, "displayname", Some("last".into())).await.unwrap();
    let next = accounts.pending.take(std::time::Duration::MAX).unwrap();
    assert_eq!(next.user_id, other);
    assert!(accounts.pending.take(std::time::Duration::MAX).is_none(), "nobody twice at once");
    turn.done();
    assert!(accounts.pending.take(std::time::Duration::MAX).is_some(), "what was added meanwhile");
    // Ended without a word, also by a panic, it is tried again.
    drop(next);
    assert!(accounts.settle_all(&*rooms).await);
    let mut told = rooms.told.lock().clone();
    told.sort_unstable();
    assert_eq!(told, ["profile @a:b", "profile @c:b"]);
}

#[tokio::test]
async fn one_whose_work_fails_keeps_no_other_from_being_settled() {
    let (accounts, rooms) = (accounts().await, FakeRooms::default());
    for user in [user_id!("@a:b"), user_id!("@c:b"), user_id!("@d:b")] {
        new_account(&accounts, TENANT, user, "password").await;
        accounts.set_profile(TENANT, user, "displayname", Some("x".into())).await.unwrap();
    }
    rooms.fails_for.lock().push("@a:b".into());
    assert!(!accounts.settle_all(&rooms).await, "one is left");
    let mut told = rooms.told.lock().clone();
    told.sort_unstable();
    assert_eq!(told, ["profile @c:b", "profile @d:b"]);
}

#[tokio::test]
async fn a_deactivated_account_is_given_no_name_any_more() {
    let (accounts, user) = (accounts().await, user_id!("@a:b"));
    new_account(&accounts, TENANT, user, "password").await;
    accounts.deactivate(TENANT, user).await.unwrap();
    let late = accounts.set_profile(TENANT, user, "displayname", Some("late".into())).await;
    assert!(matches!(late, Err(Error::Deactivated)), "{late:?}");
    assert!(accounts.profile(TENANT, user).await.unwrap().is_empty());
}
