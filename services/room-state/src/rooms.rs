//! The service: its rooms, and how commands get to them.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicU64},
};

use polity_core::{LogKey, TenantId, tasks};
use polity_log::{Asked, Env, LogError, Logs, read};
use polity_proto::{Transport, local, room_state::room_state_server::RoomStateServer};
use polity_room_engine::record::RoomHead;
use polity_store::Consistency;
use ruma_common::{OwnedEventId, RoomId};
use tracing::Instrument as _;

use crate::{
    command::{Answer, Command, Done},
    deps::{Deps, Tenant},
    error::RoomError,
    machine::Room,
};

/// The name under which rooms' logs stand in the registry.
pub const ROOM_LOG: &str = "room";

/// The room-state service.
#[derive(Clone)]
pub struct Service {
    pub(crate) deps: Arc<Deps>,
    rooms: Logs<Room>,
    /// When the last room was founded: see `found`.
    pub(crate) founded_ms: Arc<AtomicU64>,
    /// How the commands of this door came here.
    asked: Asked,
}

/// A row that a command gave, and the log in which it stands.
pub(crate) struct Placed {
    pub(crate) key: LogKey,
    pub(crate) done: Done,
}

impl Service {
    /// The service on these logs; at most `max_loaded` idle rooms stay in memory.
    #[must_use]
    pub fn new(deps: Arc<Deps>, env: Env, max_loaded: usize) -> Self {
        let machine_deps = Arc::clone(&deps);
        let rooms = Logs::owned(env, ROOM_LOG, max_loaded, move || Room::new(Arc::clone(&machine_deps)));
        Self { deps, rooms, founded_ms: Arc::default(), asked: Asked::default() }
    }

    /// The service for a call that came like this: what other processes hand on is refused for rooms that aren't open here.
    #[must_use]
    pub fn asked(&self, asked: Asked) -> RoomStateServer<Self> {
        Self { asked, ..self.clone() }.server()
    }

    /// The service for callers in this process.
    #[must_use]
    pub fn transport(&self) -> Transport {
        local(self.server())
    }

    /// The service, for a server.
    #[must_use]
    pub fn server(&self) -> RoomStateServer<Self> {
        // Larger than any event: what is too large is told as such.
        RoomStateServer::new(self.clone()).max_decoding_message_size(8 << 20)
    }

    /// Its loaded rooms, for recovery.
    #[must_use]
    pub fn recover(&self) -> Arc<dyn polity_log::Recover> {
        Arc::new(self.rooms.clone())
    }

    /// Unloads idle rooms. Call it every few seconds.
    pub fn sweep(&self) {
        self.deps.nodes.tell_size();
        self.rooms.sweep();
    }

    /// Ends all rooms' tasks; says whether they ended in time.
    pub async fn drain(&self, limit: std::time::Duration) -> bool {
        self.rooms.drain(limit).await
    }

    /// Carries a command out to its end, in a task of its own: a caller that hangs up cuts no write, and nothing off what follows it.
    pub(crate) async fn outlive<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, RoomError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RoomError>> + Send + 'static,
    {
        let work = work(self.clone()).in_current_span();
        tasks::spawn(work).await.unwrap_or_else(|_| Err(RoomError::internal("a command's task has died")))
    }

    /// Gives a room a command that needs nothing from elsewhere.
    pub(crate) async fn run(&self, tenant: TenantId, room_id: &str, command: Command) -> Result<Placed, RoomError> {
        let key = self.deps.names.find(tenant, room_id).await?.ok_or_else(|| command.without_room())?;
        match self.submit(key, command).await? {
            Answer::Done(done) => Ok(Placed { key, done }),
            Answer::Ask(_) => Err(RoomError::internal("a command asks for what it was never to be told")),
        }
    }

    /// The log of a room that this server has.
    pub(crate) async fn key(&self, tenant: TenantId, room_id: &str) -> Result<LogKey, RoomError> {
        let key = self.deps.names.find(tenant, room_id).await?;
        key.ok_or_else(|| RoomError::not_found("there is no such room"))
    }

    pub(crate) async fn submit(&self, key: LogKey, command: Command) -> Result<Answer, RoomError> {
        let without_room = command.without_room();
        match self.rooms.submit_as(key, command, self.asked).await? {
            // It was purged, by another process too. Who asks again is told what its name stands for by then.
            Err(error) if error.is_of_purged() => {
                self.deps.names.sealed(key);
                Err(without_room)
            }
            outcome => outcome,
        }
    }

    /// Deletes a room with all that it holds. What was done before, or begun, is finished.
    pub(crate) async fn purge(&self, tenant: TenantId, room_id: &str) -> Result<(), RoomError> {
        let unknown = || RoomError::not_found("there is no such room");
        let named = self.deps.names.look_up(tenant, room_id, Consistency::Serial).await?.ok_or_else(unknown)?;
        if let Some(before) = named.before {
            // Asked for again, most likely. What is sealed is nobody's: whoever is asked may finish it.
            self.rooms.purge(before, Asked::default()).await?;
        }
        let store = &*self.deps.store;
        let hint = read::projected_seq(store, named.key).await?;
        let any = match read::head(store, named.key, hint, Consistency::Serial).await {
            Ok(None) => false,
            Ok(Some(_)) | Err(LogError::Sealed) => self.rooms.purge(named.key, self.asked).await?,
            Err(error) => return Err(error.into()),
        };
        if any || named.before.is_some() { Ok(()) } else { Err(unknown()) }
    }

    /// The tenant of a request.
    pub(crate) fn tenant(&self, id: TenantId) -> Result<Arc<dyn Tenant>, RoomError> {
        self.deps.tenants.tenant(id).ok_or_else(|| RoomError::internal("the tenant is gone"))
    }

    /// A room's head, read now.
    pub(crate) async fn head(
        &self,
        tenant: TenantId,
        room_id: &RoomId,
    ) -> Result<Option<(LogKey, RoomHead)>, RoomError> {
        let Some(key) = self.deps.names.find(tenant, room_id.as_str()).await? else { return Ok(None) };
        let store = &*self.deps.store;
        let hint = read::projected_seq(store, key).await?;
        let found = match read::head(store, key, hint, Consistency::Quorum).await {
            Err(LogError::Sealed) => {
                self.deps.names.sealed(key);
                None
            }
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        let head = RoomHead::decode(&found.head.state).map_err(|error| RoomError::internal(error.to_string()))?;
        Ok(Some((key, head)))
    }

    /// Whether a room has begun: a name alone is none.
    pub(crate) async fn exists(&self, tenant: TenantId, room_id: &RoomId) -> Result<bool, RoomError> {
        Ok(self.head(tenant, room_id).await?.is_some())
    }
}

// === impl Placed ===

impl Placed {
    /// For the wire.
    pub(crate) fn appended(self) -> polity_proto::room_state::Appended {
        polity_proto::room_state::Appended {
            event_id: self.done.event_id.map(OwnedEventId::into).unwrap_or_default(),
            life: self.key.life.get().into(),
            seq: self.done.seq.get(),
        }
    }
}
