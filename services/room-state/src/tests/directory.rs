//! The directory and aliases that are made with their rooms.

use polity_proto::room_state::ListRoomRequest;
use polity_store::rooms::{AliasUse, alias, claim_alias, listed_rooms};
use ruma_common::{RoomAliasId, RoomId, owned_room_alias_id};

use super::*;

impl World {
    async fn list(&mut self, user: &str, room: &str, listed: bool) -> Result<(), Detail> {
        let request = ListRoomRequest { requester: who(user), room_id: room.into(), listed };
        self.client.list_room(request).await.map(drop).map_err(|status| Detail::from(&status))
    }

    async fn listed(&self) -> Vec<String> {
        let rooms = listed_rooms(&*self.store, TenantId::new(TENANT)).await.unwrap();
        rooms.into_iter().map(Into::into).collect()
    }

    async fn named(&mut self, alias: &RoomAliasId, room_version: &str) -> Result<String, Detail> {
        let request = CreateRoomRequest {
            requester: who(ALICE),
            room_version: room_version.into(),
            preset: Preset::PrivateChat.into(),
            alias: Some(alias.to_string()),
            ..Default::default()
        };
        let made = self.client.create_room(request).await.map_err(|status| Detail::from(&status))?;
        Ok(made.into_inner().room_id)
    }

    async fn usage(&self, name: &RoomAliasId) -> Option<AliasUse> {
        alias(&*self.store, TenantId::new(TENANT), name).await.unwrap().map(|alias| alias.usage)
    }
}

#[tokio::test]
async fn a_room_is_listed_by_who_may_name_it() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(world.listed().await, [""; 0]);
    assert_eq!(world.list(BOB, &room, true).await.unwrap_err().reason, Reason::Forbidden);
    assert_eq!(world.list("@eve:t7.test", &room, true).await.unwrap_err().reason, Reason::Forbidden);
    world.list(ALICE, &room, true).await.unwrap();
    assert_eq!(world.listed().await, [&*room]);
    let rows = world.rows(&room).await.len();
    world.list(ALICE, &room, true).await.unwrap();
    assert_eq!(world.rows(&room).await.len(), rows, "it is so already");
    world.list(ALICE, &room, false).await.unwrap();
    world.list(ALICE, &room, true).await.unwrap();
    world.list(ALICE, &room, false).await.unwrap();
    assert_eq!(world.listed().await, [""; 0], "the last word counts");
}

#[tokio::test]
async fn a_listing_that_comes_once_more_undoes_nothing() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let by = Requester { call: vec![3; 16].into(), ..who(ALICE).unwrap() };
    let request = ListRoomRequest { requester: Some(by), room_id: room.clone(), listed: true };
    world.client.list_room(request.clone()).await.unwrap();
    assert_eq!(world.listed().await, [&*room]);
    world.list(ALICE, &room, false).await.unwrap();
    world.client.list_room(request).await.unwrap();
    assert_eq!(world.listed().await, [""; 0]);
}

/// Their first events are the same, of which the id is a hash.
#[tokio::test]
async fn rooms_that_are_made_alike_at_one_time_by_two_processes_are_two() {
    let store: Arc<dyn Store> = LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap();
    let (mut one, mut other) = (process(Arc::clone(&store), 1).await, process(store, 2).await);
    let (first, second) = (one.create("12", Preset::PublicChat).await, other.create("12", Preset::PublicChat).await);
    assert_ne!(first, second);
    other.send(ALICE, &second, "1").await.unwrap();
}

#[tokio::test]
async fn an_alias_is_made_with_its_room_or_stays_free() {
    let mut world = world().await;
    let name = owned_room_alias_id!("#a:t7.test");
    let calls = (0..8).map(|_| {
        let (mut world, name) = (world.clone(), name.clone());
        async move { world.named(&name, "12").await }
    });
    let made = futures_util::future::join_all(calls).await;
    let room = made.iter().flatten().next().unwrap().clone();
    assert_eq!(made.iter().flatten().count(), 1, "exactly one room gets it");
    assert!(made.iter().filter_map(|made| made.as_ref().err()).all(|error| error.reason == Reason::RoomInUse));
    let found = alias(&*world.store, TenantId::new(TENANT), &name).await.unwrap().unwrap();
    assert_eq!((found.usage, found.room_id.as_str()), (AliasUse::InUse, &*room));
    // A room that can't be leaves its alias to others.
    let other = owned_room_alias_id!("#b:t7.test");
    let request = CreateRoomRequest {
        requester: who(ALICE),
        room_version: "12".into(),
        preset: Preset::PrivateChat.into(),
        alias: Some(other.to_string()),
        power_level_content_override: format!("{{\"users\":{{\"{ALICE}\":100}}}}").into(),
        ..Default::default()
    };
    assert_eq!(Detail::from(&world.client.create_room(request).await.unwrap_err()).reason, Reason::InvalidRoomState);
    assert_eq!(world.usage(&other).await, Some(AliasUse::Free));
    world.named(&other, "11").await.unwrap();
    let elsewhere = owned_room_alias_id!("#a:elsewhere.test");
    assert_eq!(world.named(&elsewhere, "12").await.unwrap_err().reason, Reason::InvalidParam);
}

#[tokio::test]
async fn who_dies_while_a_room_is_made_keeps_its_alias_for_a_while_only() {
    let mut world = world().await;
    let (tenant, name) = (TenantId::new(TENANT), owned_room_alias_id!("#a:t7.test"));
    let alice = <&UserId>::try_from(ALICE).unwrap();
    let never = <&RoomId>::try_from("!never").unwrap();
    // The clock stands at 1,000 s: this was reserved just now, and its room never came.
    let now = (AliasUse::Reserved, 1_000_000);
    let reserved = claim_alias(&*world.store, tenant, &name, None, (never, alice), now).await.unwrap().unwrap();
    assert_eq!(world.named(&name, "12").await.unwrap_err().reason, Reason::RoomInUse);
    let long_ago = (AliasUse::Reserved, 1_000);
    claim_alias(&*world.store, tenant, &name, Some(&reserved), (never, alice), long_ago).await.unwrap().unwrap();
    let room = world.named(&name, "12").await.unwrap();
    // One whose room did come is taken, however long ago it was reserved.
    let second = owned_room_alias_id!("#b:t7.test");
    let room = <&RoomId>::try_from(&*room).unwrap();
    claim_alias(&*world.store, tenant, &second, None, (room, alice), long_ago).await.unwrap().unwrap();
    assert_eq!(world.named(&second, "12").await.unwrap_err().reason, Reason::RoomInUse);
}
