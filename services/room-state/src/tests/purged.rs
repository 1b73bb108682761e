//! The end of a room: nobody is in it any more, and of all that was written for it only what is named stays.

use std::collections::BTreeSet;

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_proto::room_state::{ListRoomRequest, PurgeRoomRequest, RedactEventRequest};
use polity_store::{
    Bounds, Cas, Change, Condition, Durability, StoreError, Table, Values, Wrap, Write, WriteKind,
    rooms::{AliasUse, alias, listed_rooms},
    schema, values_of,
};
use ruma_common::owned_room_alias_id;

use super::*;

const CAROL: &str = "@carol:t7.test";
const DAVE: &str = "@dave:t7.test";

/// A store that knows in which partitions anything was ever written.
struct Noting {
    store: Arc<dyn Store>,
    written: Mutex<BTreeSet<(u8, Values)>>,
}

#[async_trait]
impl Wrap for Noting {
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
        self.written.lock().insert((table.number, partition.clone()));
        self.store.cas(table, partition, condition, changes).await
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.written.lock().extend(writes.iter().map(|write| (write.table.number, write.partition.clone())));
        self.store.put(writes, durability).await
    }
}

impl Noting {
    async fn stands(&self, table: &'static Table, log: polity_core::LogId) -> Vec<polity_store::Row> {
        let partitions: Vec<Values> = {
            let written = self.written.lock();
            let of_log = |(number, partition): &&(u8, Values)| {
                *number == table.number && partition.contains(&polity_store::Value::from(log))
            };
            written.iter().filter(of_log).map(|(_, partition)| partition.clone()).collect()
        };
        assert!(!partitions.is_empty(), "nothing was ever written to {}", table.name);
        let mut rows = Vec::new();
        for partition in partitions {
            rows.extend(
                self.store.scan(table, partition, Bounds::all(), 1000, Consistency::Serial).await.unwrap().rows,
            );
        }
        rows
    }
}

impl World {
    pub(super) async fn purge(&mut self, room: &str) -> Result<(), Detail> {
        let request = PurgeRoomRequest { tenant: TENANT, room_id: room.into() };
        self.client.purge_room(request).await.map(drop).map_err(|status| Detail::from(&status))
    }
}

/// A room in which everything has happened that leaves a trace, over more than a bucket.
async fn eventful(world: &mut World) -> String {
    let alias = owned_room_alias_id!("#a:t7.test");
    let request = CreateRoomRequest {
        requester: who(ALICE),
        room_version: "12".into(),
        preset: Preset::PublicChat.into(),
        alias: Some(alias.to_string()),
        listed: true,
        ..Default::default()
    };
    let room = world.client.create_room(request).await.unwrap().into_inner().room_id;
    for user in [BOB, CAROL] {
        world.member(user, &room, user, "join").await.unwrap();
    }
    world.member(ALICE, &room, DAVE, "invite").await.unwrap();
    world.member(CAROL, &room, CAROL, "leave").await.unwrap();
    for n in 0..40 {
        let user = format!("@u{n}:t7.test");
        world.member(&user, &room, &user, "join").await.unwrap();
        world.put(ALICE, &room, ("m.room.topic", ""), format!("{{\"topic\":\"{n}\"}}")).await.unwrap();
    }
    let (event_id, _) = world.send(BOB, &room, "own").await.unwrap();
    let request = RedactEventRequest { requester: who(BOB), room_id: room.clone(), event_id, ..Default::default() };
    world.client.redact_event(request).await.unwrap();
    for some in (0..1100).collect::<Vec<u32>>().chunks(100) {
        let sends = some.iter().map(|n| {
            let (mut world, room) = (world.clone(), room.clone());
            async move { world.send(ALICE, &room, &n.to_string()).await.unwrap() }
        });
        futures_util::future::join_all(sends).await;
    }
    room
}

#[tokio::test]
async fn of_a_purged_room_nothing_is_left_that_anybody_could_reach() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let local = LocalStore::memory(clock, &SystemRandom).unwrap();
    let noting = Arc::new(Noting { store: local, written: Mutex::default() });
    let mut world = process(Arc::clone(&noting) as _, 1).await;
    let room = eventful(&mut world).await;
    let other = world.create("12", Preset::PublicChat).await;
    let tenant = TenantId::new(TENANT);
    let key = world.names.find(tenant, &room).await.unwrap().unwrap();
    let receipt = Write {
        table: &schema::RECEIPTS,
        partition: values_of![key.tenant, key.log],
        row: polity_store::Row::new(values_of![BOB, "m.read", ""], bytes::Bytes::new()),
        kind: WriteKind::Projection(polity_core::Stamp::new(polity_core::Position::new(key.life, Seq::new(3)), 1)),
    };
    world.store.put(vec![receipt], Durability::Acknowledged).await.unwrap();
    for table in [&schema::STATE_NODES, &schema::TRANSACTIONS, &schema::REDACTIONS, &schema::RECEIPTS] {
        assert!(!noting.stands(table, key.log).await.is_empty(), "{} has something of it", table.name);
    }
    world.purge(&room).await.unwrap();
    for table in [&schema::STATE_NODES, &schema::TRANSACTIONS, &schema::REDACTIONS, &schema::RECEIPTS] {
        assert!(noting.stands(table, key.log).await.is_empty(), "{} has nothing of it", table.name);
    }
    let heads = noting.stands(&schema::LOG, key.log).await;
    assert_eq!(heads.len(), 2, "one for each bucket");
    assert!(heads.iter().all(|head| head.guards.is_some_and(|(_, epoch)| epoch == -1)), "{heads:?}");
    assert!(
        !noting.stands(&schema::LOG, world.names.find(tenant, &other).await.unwrap().unwrap().log).await.is_empty()
    );
    for user in [ALICE, BOB, CAROL, DAVE, "@u17:t7.test"] {
        assert_eq!(world.membership(user, &room).await.unwrap().0, "leave", "{user}");
    }
    let listed = listed_rooms(&*world.store, tenant).await.unwrap();
    assert!(listed.is_empty());
    let freed = alias(&*world.store, tenant, &owned_room_alias_id!("#a:t7.test")).await.unwrap().unwrap();
    assert_eq!(freed.usage, AliasUse::Free);
}

#[tokio::test]
async fn a_purged_room_is_an_unknown_one_to_every_process() {
    let mut world = world().await;
    let mut stale = process(Arc::clone(&world.store), 2).await;
    let room = eventful(&mut world).await;
    // It has the room's name in memory.
    stale.names.find(TenantId::new(TENANT), &room).await.unwrap().unwrap();
    world.purge(&room).await.unwrap();
    for world in [&mut world, &mut stale] {
        for _ in 0..2 {
            assert_eq!(world.send(ALICE, &room, "own").await.unwrap_err().reason, Reason::Forbidden);
            assert_eq!(world.send(BOB, &room, "stale").await.unwrap_err().reason, Reason::Forbidden);
            assert_eq!(world.member(BOB, &room, BOB, "join").await.unwrap_err().reason, Reason::NotFound);
            let request = ListRoomRequest { requester: who(ALICE), room_id: room.clone(), listed: true };
            assert!(world.client.list_room(request).await.is_err());
        }
        world.purge(&room).await.expect("asked for again it is the same");
        let never = world.purge("!never:t7.test").await.unwrap_err();
        assert_eq!(never.reason, Reason::NotFound);
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "leave");
    }
    // Its alias is free for another one.
    let request = CreateRoomRequest {
        requester: who(BOB),
        room_version: "12".into(),
        preset: Preset::PublicChat.into(),
        alias: Some("#a:t7.test".into()),
        ..Default::default()
    };
    stale.client.create_room(request).await.unwrap();
}
