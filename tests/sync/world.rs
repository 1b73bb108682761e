//! Real rooms, the real engine and its hub, on a store in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use polity_accounts::{Accounts, NewAccount, NewDevice};
use polity_bus::{Bus, LocalBus};
use polity_cluster::digest::Writers;
use polity_core::{
    Clock, IncarnationId, Life, Position, Seq, SystemClock, SystemRandom, TenantId,
    sync_token::{RoomsHeld, TokenKey},
};
use polity_log::{Env, Member, Names, Registry, read};
use polity_proto::{
    Transport,
    room_state::{
        BanUserRequest, CreateRoomRequest, InviteUserRequest, JoinRoomRequest, KickUserRequest, LeaveRoomRequest,
        Preset, PurgeRoomRequest, RedactEventRequest, Requester, SendEventRequest, SetProfileRequest, SetStateRequest,
        UnbanUserRequest, room_state_client::RoomStateClient,
    },
};
use polity_room_engine::record::RoomRow;
use polity_room_state::{Deps, ROOM_LOG, Service};
use polity_store::{Consistency, MarkedStore, Marks, Store, users::put_own_receipt};
use polity_store_local::LocalStore;
use polity_sync::{
    engine::{Engine, SyncRequest, Viewer},
    follow::Heard,
    heads::HeadMap,
    live::Interest,
};
use polity_tests::parts::{self, Reading};
use ruma_common::OwnedUserId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{counted::CountedStore, late::LateStore};

pub(crate) const TENANT: TenantId = TenantId::new(1);

pub(crate) struct World {
    pub(crate) store: Arc<LateStore>,
    /// The same, as the engine reads it.
    pub(crate) reads: Arc<CountedStore>,
    pub(crate) engine: Arc<Engine>,
    names: Arc<Names>,
    client: RoomStateClient<Transport>,
    pub(crate) key: Arc<TokenKey>,
    parts: Parts,
}

/// Of what an engine is made.
#[derive(Clone)]
struct Parts {
    env: Env,
    bus: Arc<dyn Bus>,
    marks: Arc<Marks>,
}

/// A row of a room, as the truth has it.
#[derive(Debug, Clone)]
pub(crate) struct TrueRow {
    pub(crate) event: Value,
    pub(crate) event_id: String,
    pub(crate) row: RoomRow,
}

pub(crate) async fn world() -> World {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let random = Arc::new(SystemRandom);
    let (marked, marks) = MarkedStore::over(LocalStore::memory(Arc::clone(&clock), &SystemRandom).unwrap());
    let late = LateStore::new(marked, Arc::clone(&marks));
    let store: Arc<dyn Store> = Arc::clone(&late) as _;
    let this = Member::new(IncarnationId::new([1; 16]), "test", "1", "");
    let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
    let heads = Arc::new(HeadMap::new(parts::Caches::LARGE.heads, true));
    let moved = Arc::new(Heard { heads: Arc::clone(&heads), journal: None });
    let env = Env { store: Arc::clone(&store), registry, moved, clock: Arc::clone(&clock), shared: false };
    let names = Arc::new(Names::new(Arc::clone(&store), random.clone(), ROOM_LOG));
    let tenants = parts::signers(&[(TENANT, "t.test")]);
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let (store2, bus2) = (Arc::clone(&store), Arc::clone(&bus));
    let deps = Deps::new(
        store2,
        bus2,
        Arc::clone(&clock),
        random.clone(),
        tenants,
        Arc::clone(&names),
        parts::Caches::LARGE.read,
    );
    let client = RoomStateClient::new(Service::new(deps, env.clone(), 1000).transport());
    let parts = Parts { env, bus, marks };
    let (engine, reads) = parts.engine(heads);
    let key = parts::token_key(TENANT);
    World { store: late, reads, engine, names, client, key, parts }
}

impl Parts {
    /// An engine that knows nothing yet, and what it reads.
    fn engine(&self, heads: Arc<HeadMap>) -> (Arc<Engine>, Arc<CountedStore>) {
        let Self { env, bus, marks } = self.clone();
        let reads = CountedStore::new(Arc::clone(&env.store));
        let store: Arc<dyn Store> = Arc::clone(&reads) as _;
        let (env, clock, random) =
            (Env { store: Arc::clone(&store), ..env.clone() }, Arc::clone(&env.clock), Arc::new(SystemRandom));
        let names = Arc::new(Names::new(Arc::clone(&store), random.clone(), ROOM_LOG));
        let accounts = Arc::new(Accounts::new(&env, Arc::clone(&marks), &bus, random.clone(), true, 1000).unwrap());
        let (subscriptions, receiver) = bus.receiver(10_000);
        let interest = Interest::new(subscriptions);
        let (writers, stop) = (Writers::none(), CancellationToken::new());
        let rooms_held = RoomsHeld::default();
        let caches = parts::Caches::LARGE;
        let reading = Reading {
            store,
            marks,
            clock,
            random,
            names,
            heads,
            interest,
            writers,
            accounts,
            stop,
            rooms_held,
            caches,
        };
        let engine = reading.engine();
        parts::hear(&engine, &bus, receiver, None);
        (engine, reads)
    }
}

fn who(user: &str) -> Option<Requester> {
    Some(Requester { tenant: TENANT.get(), user_id: user.into(), device_id: "D".into(), call: Default::default() })
}

impl World {
    pub(crate) async fn create(&self, creator: &str, preset: &str) -> String {
        let preset = if preset == "public_chat" { Preset::PublicChat } else { Preset::PrivateChat };
        let (room_version, preset) = ("11".to_owned(), preset.into());
        let request = CreateRoomRequest { requester: who(creator), room_version, preset, ..Default::default() };
        self.client.clone().create_room(request).await.unwrap().into_inner().room_id
    }

    /// Sends an event, state if `state_key` is given; nothing if it isn't allowed.
    pub(crate) async fn send(
        &self,
        user: &str,
        room: &str,
        (event_type, state_key): (&str, Option<&str>),
        content: Value,
        redacts: Option<String>,
    ) {
        let (requester, room_id, event_type) = (who(user), room.to_owned(), event_type.to_owned());
        let content = content.to_string().into_bytes().into();
        let mut client = self.client.clone();
        if let Some(event_id) = redacts {
            let request = RedactEventRequest { requester, room_id, event_id, ..Default::default() };
            let _ = client.redact_event(request).await;
        } else if let Some(state_key) = state_key.map(str::to_owned) {
            let _ = client.set_state(SetStateRequest { requester, room_id, event_type, state_key, content }).await;
        } else {
            let request = SendEventRequest { requester, room_id, event_type, content, txn_id: None };
            let _ = client.send_event(request).await;
        }
    }

    /// Gives a user a name; an account, too, where there is none.
    async fn call(&self, user: &str, name: String) {
        let (accounts, user) = (&self.engine.accounts, OwnedUserId::try_from(user).unwrap());
        let displayname = Some(name.clone());
        match accounts.register(TENANT, &user, NewAccount { displayname, ..NewAccount::default() }).await {
            Err(polity_accounts::Error::UserInUse) => {
                accounts.set_profile(TENANT, &user, "displayname", Some(name)).await.unwrap();
            }
            made => drop(made.unwrap()),
        }
    }

    /// Changes a membership; nothing if that isn't allowed.
    pub(crate) async fn member(&self, user: &str, room: &str, target: &str, membership: &str, name: Option<String>) {
        let (requester, room_id, user_id) = (who(user), room.to_owned(), target.to_owned());
        let mut client = self.client.clone();
        match (membership, name) {
            ("join", Some(name)) => {
                self.call(user, name).await;
                let _ = client.set_profile(SetProfileRequest { requester, room_id }).await;
            }
            ("join", None) => {
                let request = JoinRoomRequest { requester, room_id, ..Default::default() };
                let _ = client.join_room(request).await;
            }
            ("leave", _) => {
                let request = LeaveRoomRequest { requester, room_id, reason: None };
                let _ = client.leave_room(request).await;
            }
            ("invite", _) => {
                let request = InviteUserRequest { requester, room_id, user_id, ..Default::default() };
                let _ = client.invite_user(request).await;
            }
            ("kick", _) => {
                let request = KickUserRequest { requester, room_id, user_id, reason: None };
                let _ = client.kick_user(request).await;
            }
            ("ban", _) => {
                let request = BanUserRequest { requester, room_id, user_id, reason: None };
                let _ = client.ban_user(request).await;
            }
            ("unban", _) => {
                let request = UnbanUserRequest { requester, room_id, user_id, reason: None };
                let _ = client.unban_user(request).await;
            }
            (other, _) => panic!("no command for {other}"),
        }
    }

    /// All rows of a room.
    pub(crate) async fn purge(&self, room: &str) {
        let request = PurgeRoomRequest { tenant: TENANT.get(), room_id: room.to_owned() };
        self.client.clone().purge_room(request).await.unwrap();
    }

    pub(crate) async fn rows(&self, room: &str) -> Vec<TrueRow> {
        let key = self.names.find(TENANT, room).await.unwrap().unwrap();
        let rows = read::after(&*self.store, key, Seq::ZERO, 10_000, Consistency::Serial).await.unwrap();
        let read = |row: &polity_log::LogRow| {
            let event_id = row.event_id.as_deref().unwrap_or_default().to_owned();
            let row = RoomRow::decode(&row.body).unwrap();
            TrueRow { event: serde_json::from_slice(&row.pdu).unwrap(), event_id, row }
        };
        rows.iter().map(read).collect()
    }

    /// Notes a receipt.
    pub(crate) async fn read(&self, user: &str, room: &str, (seq, event_id): (usize, &str), scope: (bool, &str)) {
        let position = Position::new(Life::FIRST, Seq::new(u64::try_from(seq).unwrap()));
        let kind = if scope.0 { "m.read.private" } else { "m.read" };
        let (user, room) = (user.try_into().unwrap(), room.try_into().unwrap());
        let event = (event_id.try_into().unwrap(), position);
        put_own_receipt(&*self.store, TENANT, user, room, (kind, scope.1), event).await.unwrap();
    }

    pub(crate) fn viewer(&self, user: &str) -> Viewer {
        let user_id = OwnedUserId::try_from(user).unwrap();
        Viewer::new(TENANT, user_id, ("D".into(), 0), Arc::clone(&self.key))
    }

    pub(crate) fn request(&self, user: &str, since: Option<String>, filter: Value, state_after: bool) -> SyncRequest {
        SyncRequest {
            viewer: self.viewer(user),
            since,
            filter: Arc::new(serde_json::from_value(filter).unwrap()),
            full_state: false,
            state_after,
            timeout: Duration::ZERO,
        }
    }

    /// An engine as it is after a restart, and what it reads.
    pub(crate) fn restarted(&self) -> (Arc<Engine>, Arc<CountedStore>) {
        self.parts.engine(Arc::new(HeadMap::new(parts::Caches::LARGE.heads, true)))
    }

    /// An account whose device the viewer of that user is.
    pub(crate) async fn register(&self, user: &str) {
        let device = NewDevice { device_id: Some("D".into()), ..NewDevice::default() };
        let account = NewAccount { device: Some(device), ..NewAccount::default() };
        let user_id = OwnedUserId::try_from(user).unwrap();
        self.engine.accounts.register(TENANT, &user_id, account).await.unwrap();
    }

    /// What the engine answers, as a client gets it.
    pub(crate) async fn sync(&self, request: &SyncRequest) -> Value {
        let answer = self.engine.sync(request, || ()).await.unwrap();
        serde_json::from_slice(&polity_sync::v3::encode(answer)).unwrap()
    }
}

/// The state after all rows: event ids by type and key.
pub(crate) fn state_of(rows: &[TrueRow]) -> BTreeMap<(String, String), String> {
    let mut state = BTreeMap::new();
    for delta in rows.iter().flat_map(|row| &row.row.meta.deltas) {
        let name = (delta.event_type.clone(), delta.state_key.clone());
        match &delta.after {
            Some(event_id) => state.insert(name, event_id.to_string()),
            None => state.remove(&name),
        };
    }
    state
}

/// What a user is after some rows.
pub(crate) fn membership_of(rows: &[TrueRow], user: &str) -> String {
    let own = state_of(rows).remove(&("m.room.member".to_owned(), user.to_owned()));
    let event = own.and_then(|id| rows.iter().find(|row| row.event_id == id));
    event.map_or("none", |row| row.event["content"]["membership"].as_str().unwrap()).to_owned()
}
