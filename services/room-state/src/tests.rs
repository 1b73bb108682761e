//! Rooms through the service's own door, on a store in memory.

use std::{collections::HashMap, sync::Arc};

use polity_bus::LocalBus;
use polity_core::{Clock, IncarnationId, LogKey, ManualClock, Seq, SystemRandom, TenantId};
use polity_log::{Env, Member, Moved, Names, Registry, read};
use polity_proto::{
    Detail, Reason, Transport,
    room_state::{
        Appended, BanUserRequest, CreateRoomRequest, InviteUserRequest, JoinRoomRequest, KickUserRequest,
        KnockRoomRequest, LeaveRoomRequest, Preset, Requester, SendEventRequest, SetProfileRequest, SetStateRequest,
        UnbanUserRequest, room_state_client::RoomStateClient,
    },
    route,
};
use polity_room_engine::{build::SigningIdentity, record::RoomRow};
use polity_store::{Consistency, Store, rooms};
use polity_store_local::LocalStore;
use ruma_common::{OwnedServerName, UserId};

use crate::{Deps, ROOM_LOG, Service, Tenant, Tenants};

mod cluster;
mod cut_off;
mod directory;
mod founded;
mod knocked;
mod model;
mod plain;
mod profiles;
mod purged;
mod redacted;
mod refused;
mod restricted;
mod states;
mod unwilling;

struct TestTenant(SigningIdentity);

impl Tenant for TestTenant {
    fn identity(&self) -> &SigningIdentity {
        &self.0
    }
}

struct TestTenants(HashMap<TenantId, Arc<TestTenant>>);

impl Tenants for TestTenants {
    fn tenant(&self, id: TenantId) -> Option<Arc<dyn Tenant>> {
        self.0.get(&id).map(|tenant| Arc::clone(tenant) as _)
    }
}

struct Deaf;

impl Moved for Deaf {
    fn moved(&self, _key: LogKey, _seq: Seq) {}
}

struct World {
    store: Arc<dyn Store>,
    names: Arc<Names>,
    client: RoomStateClient<Transport>,
}

const TENANT: u64 = 7;

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(1_000_000));
    process(LocalStore::memory(clock, &SystemRandom).unwrap(), 1).await
}

/// A process on a store, beside others perhaps.
async fn process(store: Arc<dyn Store>, number: u8) -> World {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let incarnation = IncarnationId::new([number; 16]);
    let this = Member::new(incarnation, "test", &number.to_string(), "");
    let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
    let deps = deps(Arc::clone(&store), clock.clone());
    let names = Arc::clone(&deps.names);
    let env = Env { store: Arc::clone(&store), registry, moved: Arc::new(Deaf), clock, shared: false };
    let client = RoomStateClient::new(Service::new(deps, env, 100).transport());
    World { store, names, client }
}

fn deps(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Deps> {
    let names = Arc::new(Names::new(Arc::clone(&store), Arc::new(SystemRandom), ROOM_LOG));
    let tenants = [TENANT, TENANT + 1].map(|id| {
        let name = OwnedServerName::try_from(format!("t{id}.test")).unwrap();
        (TenantId::new(id), Arc::new(TestTenant(SigningIdentity::from_seed(name, "1", &[3; 32]).unwrap())))
    });
    let tenants = Arc::new(TestTenants(tenants.into()));
    Deps::new(store, Arc::new(LocalBus::new()), clock, Arc::new(SystemRandom), tenants, names, 1 << 20)
}

fn who(user: &str) -> Option<Requester> {
    let tenant = if user.ends_with("t8.test") { TENANT + 1 } else { TENANT };
    Some(Requester { tenant, user_id: user.into(), device_id: "D".into(), call: Default::default() })
}

const ALICE: &str = "@alice:t7.test";
const BOB: &str = "@bob:t7.test";

/// What a call gave.
fn event<T>(
    answer: Result<tonic::Response<T>, tonic::Status>,
    read: fn(T) -> Option<Appended>,
) -> Result<String, Detail> {
    let answer = answer.map_err(|status| Detail::from(&status))?.into_inner();
    Ok(read(answer).unwrap().event_id)
}

impl World {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), names: self.names.clone(), client: self.client.clone() }
    }

    async fn create(&mut self, version: &str, preset: Preset) -> String {
        let (room_version, preset) = (version.to_owned(), preset.into());
        let request = CreateRoomRequest { requester: who(ALICE), room_version, preset, ..Default::default() };
        self.client.create_room(request).await.unwrap().into_inner().room_id
    }

    async fn send(&mut self, user: &str, room: &str, txn: &str) -> Result<(String, u64), Detail> {
        let content = format!("{{\"msgtype\":\"m.text\",\"body\":\"{txn}\"}}");
        self.send_as(user, room, ("m.room.message", Some(txn)), content).await
    }

    async fn send_as(
        &mut self,
        user: &str,
        room: &str,
        (event_type, txn): (&str, Option<&str>),
        content: impl Into<String>,
    ) -> Result<(String, u64), Detail> {
        let request = SendEventRequest {
            requester: who(user),
            room_id: room.into(),
            event_type: event_type.into(),
            content: content.into().into(),
            txn_id: txn.map(str::to_owned),
        };
        let call = route::routed(tonic::Request::new(request), &route::room(TENANT, room), txn.is_some());
        let answer = self.client.send_event(call).await.map_err(|status| Detail::from(&status))?.into_inner();
        let event = answer.event.unwrap();
        Ok((event.event_id, event.seq))
    }

    /// Sets state.
    async fn put(
        &mut self,
        user: &str,
        room: &str,
        (event_type, state_key): (&str, &str),
        content: impl Into<String>,
    ) -> Result<String, Detail> {
        let request = SetStateRequest {
            requester: who(user),
            room_id: room.into(),
            event_type: event_type.into(),
            state_key: state_key.into(),
            content: content.into().into(),
        };
        event(self.client.set_state(request).await, |answer| answer.event)
    }

    async fn member(&mut self, user: &str, room: &str, target: &str, membership: &str) -> Result<String, Detail> {
        let (by, room_id, user_id) = (who(user), room.to_owned(), target.to_owned());
        let client = &mut self.client;
        match membership {
            "join" => {
                let request = JoinRoomRequest { requester: by, room_id, ..Default::default() };
                event(client.join_room(request).await, |answer| answer.event)
            }
            "knock" => {
                let request = KnockRoomRequest { requester: by, room_id, ..Default::default() };
                event(client.knock_room(request).await, |answer| answer.event)
            }
            "leave" => {
                let request = LeaveRoomRequest { requester: by, room_id, ..Default::default() };
                event(client.leave_room(request).await, |answer| answer.event)
            }
            "invite" => {
                let request = InviteUserRequest { requester: by, room_id, user_id, ..Default::default() };
                event(client.invite_user(request).await, |answer| answer.event)
            }
            "kick" => {
                let request = KickUserRequest { requester: by, room_id, user_id, ..Default::default() };
                event(client.kick_user(request).await, |answer| answer.event)
            }
            "ban" => {
                let request = BanUserRequest { requester: by, room_id, user_id, ..Default::default() };
                event(client.ban_user(request).await, |answer| answer.event)
            }
            "unban" => {
                let request = UnbanUserRequest { requester: by, room_id, user_id, ..Default::default() };
                event(client.unban_user(request).await, |answer| answer.event)
            }
            other => panic!("no command for {other}"),
        }
    }

    async fn rows(&self, room: &str) -> Vec<RoomRow> {
        let key = self.names.find(TenantId::new(TENANT), room).await.unwrap().unwrap();
        let rows = read::after(&*self.store, key, Seq::ZERO, 10_000, Consistency::Serial).await.unwrap();
        rows.iter().map(|row| RoomRow::decode(&row.body).unwrap()).collect()
    }

    async fn membership(&self, user: &str, room: &str) -> Option<(String, u64)> {
        let user = <&UserId>::try_from(user).unwrap();
        let row = rooms::membership(&*self.store, TenantId::new(TENANT), user, room.try_into().unwrap()).await.unwrap();
        row.map(|row| (row.membership, row.since.get()))
    }
}

#[tokio::test]
async fn a_rooms_life_in_every_version() {
    for version in ["10", "11", "12"] {
        let mut world = world().await;
        let room = world.create(version, Preset::PrivateChat).await;
        assert_eq!(room.contains(':'), version != "12", "{room}");
        assert_eq!(world.send(BOB, &room, "1").await.unwrap_err().reason, Reason::Forbidden);
        assert!(world.member(BOB, &room, BOB, "join").await.is_err(), "not invited");
        world.member(ALICE, &room, BOB, "invite").await.unwrap();
        world.member(BOB, &room, BOB, "join").await.unwrap();
        let (first, seq) = world.send(BOB, &room, "1").await.unwrap();
        assert_eq!(world.send(BOB, &room, "1").await.unwrap(), (first.clone(), seq), "the same transaction");
        assert_ne!(world.send(ALICE, &room, "1").await.unwrap().0, first, "another user's transaction");
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "join");
        assert!(world.member(BOB, &room, ALICE, "ban").await.is_err(), "no power");
        world.member(ALICE, &room, BOB, "ban").await.unwrap();
        assert!(world.member(BOB, &room, BOB, "join").await.is_err(), "banned");
        world.member(ALICE, &room, BOB, "unban").await.unwrap();
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "leave");
        let rows = world.rows(&room).await;
        let depth = |row: &RoomRow| serde_json::from_slice::<serde_json::Value>(&row.pdu).unwrap()["depth"].clone();
        assert!(rows.iter().zip(1..).all(|(row, n)| depth(row) == n), "one after the other");
    }
}

#[tokio::test]
async fn fifty_senders_get_one_order_and_nothing_crosses_tenants() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let before = world.rows(&room).await.len();
    let sends = (0..50).map(|n| {
        let mut world = world.clone();
        let room = room.clone();
        async move { world.send(ALICE, &room, &n.to_string()).await.unwrap().1 }
    });
    let mut seqs = futures_util::future::join_all(sends).await;
    seqs.sort_unstable();
    assert_eq!(seqs, (before as u64 + 1..=before as u64 + 50).collect::<Vec<_>>());
    let counted = world.rows(&room).await.last().unwrap().meta.counts.notifying;
    assert_eq!(counted, 50);
    let stranger = world.send("@alice:t8.test", &room, "x").await.unwrap_err();
    assert_eq!(stranger.reason, Reason::Forbidden, "another tenant has no such room");
}
