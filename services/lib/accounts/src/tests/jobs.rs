//! What changes owe is done, also when the process that made them dies.

use async_trait::async_trait;
use polity_core::TenantId;
use polity_store::{Durability, StoreError, Wrap, Write};
use tokio::sync::watch;

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
async fn a_change_that_is_asked_for_again_is_told_before_it_is_acknowledged() {
    let ((world, parts), user) = (in_parts(false), user_id!("@a:b"));
    let (one, other) = (world.beside(1).await.accounts, world.beside(2).await.accounts);
    let session = registered(&one, user).await;
    let before = one.device_lists_position(TENANT).await.unwrap();
    let rename = |accounts: &Arc<Accounts>| {
        let (accounts, device) = (Arc::clone(accounts), session.device_id.clone());
        async move { accounts.rename_device(TENANT, user, &device, Some("new".into())).await }
    };
    let first = polity_core::tasks::spawn(rename(&other));
    parts.held.subscribe().wait_for(|held| *held).await.unwrap();
    // The new name is seen, what it owes isn't yet, and who wrote it is slow.
    rename(&one).await.unwrap();
    let (users, told) = one.device_lists_after(TENANT, before).await.unwrap().unwrap();
    assert_eq!(users.into_keys().collect::<Vec<_>>(), [user]);
    rename(&one).await.unwrap();
    assert_eq!(one.device_lists_position(TENANT).await.unwrap(), told, "once");
    parts.held.send_replace(false);
    first.await.unwrap().unwrap();
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

/// A store that lets others see of the change to the name "new" only the job that it owes, or all but that, for a while.
struct InParts {
    store: Arc<dyn Store>,
    /// Whether it is the job that they see.
    job_first: bool,
    /// Whether that is still to be seen so, and whether the rest of it is held back.
    next: AtomicBool,
    held: watch::Sender<bool>,
}

#[async_trait]
impl Wrap for InParts {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let owes = |write: &Write| write.row.key.first().and_then(polity_store::Value::as_text) == Some("job");
        let is_it = |write: &Write| write.row.value.windows(3).any(|bytes| bytes == b"new");
        if writes.iter().any(is_it) && self.next.swap(false, Ordering::SeqCst) {
            let (first, rest): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| owes(write) == self.job_first);
            self.store.put(first, durability).await?;
            let mut held = self.held.subscribe();
            self.held.send_replace(true);
            held.wait_for(|held| !*held).await.unwrap();
            return self.store.put(rest, durability).await;
        }
        self.store.put(writes, durability).await
    }
}

/// Rooms that are given the name that the user has.
struct Named(Arc<Accounts>, Mutex<Vec<String>>);

#[async_trait]
impl RoomWork for Named {
    async fn profile_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let name = self.0.profile(tenant, user_id).await?.remove("displayname");
        self.1.lock().push(name.unwrap_or_default());
        Ok(())
    }

    async fn leave_rooms(&self, _tenant: TenantId, _user_id: &UserId) -> Result<(), Error> {
        Ok(())
    }
}

fn in_parts(job_first: bool) -> (World, Arc<InParts>) {
    let mut parts = None;
    let world = World::on(|store| {
        let (next, held) = (AtomicBool::new(true), watch::Sender::new(false));
        let made = Arc::new(InParts { store, job_first, next, held });
        parts = Some(Arc::clone(&made));
        made
    });
    (world, parts.unwrap())
}

#[tokio::test]
async fn work_is_done_by_rows_that_can_be_read_whole() {
    let ((world, parts), user) = (in_parts(true), user_id!("@a:b"));
    let (one, other) = (world.beside(1).await.accounts, world.beside(2).await.accounts);
    new_account(&one, TENANT, user, "password").await;
    one.set_profile(TENANT, user, "displayname", Some("old".into())).await.unwrap();
    let renames = {
        let other = Arc::clone(&other);
        polity_core::tasks::spawn(
            async move { other.set_profile(TENANT, user, "displayname", Some("new".into())).await },
        )
    };
    parts.held.subscribe().wait_for(|held| *held).await.unwrap();
    // Of the new row only the job is seen.
    let rooms = Named(Arc::clone(&one), Mutex::default());
    assert!(one.settle_all(&rooms).await);
    parts.held.send_replace(false);
    renames.await.unwrap().unwrap();
    assert!(other.settle_all(&rooms).await);
    let told = rooms.1.lock().clone();
    assert_eq!(told.last().map(String::as_str), Some("new"), "{told:?}");
}
