//! What rooms show of users, whenever that changes.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use polity_accounts::{Accounts, NewAccount};
use polity_bus::Bus;
use polity_store::{Cas, Change, Condition, MarkedStore, StoreError, Table, Values, Wrap, schema};
use serde_json::Value;

use super::*;

/// A store where something else happens right before a log is appended to, once.
#[derive(Clone)]
struct Interrupted {
    store: Arc<dyn Store>,
    first: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

#[async_trait]
impl Wrap for Interrupted {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        let first = if table.number == schema::LOG.number { self.first.lock().take() } else { None };
        if let Some(first) = first {
            first.await;
        }
        self.store.cas(table, partition, condition, changes).await
    }
}

/// Users, and a room's world on a store that they interrupt.
struct Users {
    accounts: Arc<Accounts>,
    interrupted: Interrupted,
    world: World,
}

impl Users {
    /// Alice, Bob, and a public room of Alice's.
    async fn of_a_room() -> (Self, String) {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let store: Arc<dyn Store> = LocalStore::memory(clock.clone(), &SystemRandom).unwrap();
        let interrupted = Interrupted { store: Arc::clone(&store), first: Arc::default() };
        let world = process(Arc::new(interrupted.clone()), 1).await;
        let (store, marks) = MarkedStore::over(store);
        let this = Member::new(IncarnationId::new([9; 16]), "test", "users", "");
        let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
        let env = Env { store, registry, moved: Arc::new(Deaf), clock, shared: true };
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let accounts = Arc::new(Accounts::new(&env, marks, &bus, Arc::new(SystemRandom), true, 100).unwrap());
        for user in [ALICE, BOB] {
            let user = <&UserId>::try_from(user).unwrap();
            accounts.register(TenantId::new(TENANT), user, NewAccount::default()).await.unwrap();
        }
        let mut users = Self { accounts, interrupted, world };
        let room = users.world.create("12", Preset::PublicChat).await;
        (users, room)
    }

    fn call_bob(&self, name: &'static str) -> BoxFuture<'static, ()> {
        let accounts = Arc::clone(&self.accounts);
        Box::pin(async move {
            let bob = <&UserId>::try_from(BOB).unwrap();
            accounts.set_profile(TenantId::new(TENANT), bob, "displayname", Some(name.into())).await.unwrap();
        })
    }

    /// The contents of a user's member events, oldest first.
    async fn shown(&self, room: &str, user: &str) -> Vec<(String, String)> {
        let rows = self.world.rows(room).await;
        let events = rows.iter().filter_map(|row| serde_json::from_slice::<Value>(&row.pdu).ok());
        let own = events.filter(|event| event["type"] == "m.room.member" && event["state_key"] == user);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        own.map(|event| (text(&event["content"]["membership"]), text(&event["content"]["displayname"]))).collect()
    }
}

fn pair(membership: &str, name: &str) -> (String, String) {
    (membership.to_owned(), name.to_owned())
}

#[tokio::test]
async fn rooms_show_the_profile_that_the_user_has() {
    let (mut users, room) = Users::of_a_room().await;
    users.call_bob("Bob").await;
    users.world.member(ALICE, &room, BOB, "invite").await.unwrap();
    users.world.member(BOB, &room, BOB, "join").await.unwrap();
    let (_, since) = users.world.membership(BOB, &room).await.unwrap();
    users.call_bob("Robert").await;
    let request = SetProfileRequest { requester: who(BOB), room_id: room.clone() };
    let changed = event(users.world.client.set_profile(request.clone()).await, |answer| answer.event).unwrap();
    let again = event(users.world.client.set_profile(request).await, |answer| answer.event).unwrap();
    assert_eq!(again, changed, "the same");
    assert_eq!(users.shown(&room, BOB).await, [pair("invite", "Bob"), pair("join", "Bob"), pair("join", "Robert")]);
    assert_eq!(users.world.membership(BOB, &room).await.unwrap(), ("join".into(), since), "still the same stretch");
    users.world.member(BOB, &room, BOB, "leave").await.unwrap();
    users.world.member(BOB, &room, BOB, "join").await.unwrap();
    assert!(users.world.membership(BOB, &room).await.unwrap().1 > since);
    assert_eq!(users.shown(&room, ALICE).await, [pair("join", "alice")], "who made the room");
}

#[tokio::test]
async fn a_join_shows_the_profile_that_the_user_has_when_it_is_answered() {
    let (mut users, room) = Users::of_a_room().await;
    *users.interrupted.first.lock() = Some(users.call_bob("Robert"));
    users.world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(users.shown(&room, BOB).await, [pair("join", "bob"), pair("join", "Robert")]);
    // Joined already, by a process that died before it looked: whoever asks again looks.
    users.call_bob("Bobby").await;
    users.world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(users.shown(&room, BOB).await.last(), Some(&pair("join", "Bobby")));
    assert_eq!(users.shown(&room, BOB).await.len(), 3);
}

#[tokio::test]
async fn a_join_of_an_account_that_is_deactivated_meanwhile_ends() {
    let (mut users, room) = Users::of_a_room().await;
    let accounts = Arc::clone(&users.accounts);
    *users.interrupted.first.lock() = Some(Box::pin(async move {
        accounts.deactivate(TenantId::new(TENANT), <&UserId>::try_from(BOB).unwrap()).await.unwrap();
    }));
    users.world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(users.shown(&room, BOB).await, [pair("join", "bob"), pair("leave", "")]);
}

#[tokio::test]
async fn a_new_room_shows_the_profile_that_its_founder_has_when_it_is_there() {
    let (mut users, _) = Users::of_a_room().await;
    let request = || CreateRoomRequest {
        requester: who(BOB),
        room_version: "12".into(),
        preset: Preset::PublicChat.into(),
        invite: vec![ALICE.into()],
        ..Default::default()
    };
    *users.interrupted.first.lock() = Some(users.call_bob("Robert"));
    let room = users.world.client.create_room(request()).await.unwrap().into_inner().room_id;
    assert_eq!(users.shown(&room, BOB).await, [pair("join", "bob"), pair("join", "Robert")]);
    assert_eq!(users.shown(&room, ALICE).await, [pair("invite", "alice")]);
}
