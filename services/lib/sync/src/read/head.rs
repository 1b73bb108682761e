//! Heads of rooms: from memory as long as the head map says that they didn't move, else read. Whoever asks for one joins a read that
//! isn't issued yet: when everybody comes back at once, a room is read once, and what an access check rests on was read after it
//! was asked for.

use std::{collections::HashMap, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use polity_core::{
    LogId, LogKey, Seq, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::{LogError, Names, read};
use polity_room_engine::record::RoomHead;
use polity_store::{Consistency, Store};
use quick_cache::sync::Cache;
use ruma_common::OwnedRoomId;

use super::{ReadError, RoomState};
use crate::{heads::HeadMap, metric};

/// Heads that are kept.
const KEPT: usize = 10_000;

type Name = (TenantId, LogId);
type Answer = Result<Option<Arc<RoomState>>, ReadError>;
type Read = BoxFuture<'static, Answer>;

/// See the module.
pub(super) struct RoomHeads {
    store: Arc<dyn Store>,
    map: Arc<HeadMap>,
    names: Arc<Names>,
    /// The newest head seen of each log: right as long as the head map knows no newer one.
    states: Cache<Name, Arc<RoomState>>,
    asked: Mutex<HashMap<Name, Asked>>,
}

/// The reads of one head.
#[derive(Default)]
struct Asked {
    /// Whose turn it is to read.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The read that isn't issued yet.
    next: Option<WeakShared<Read>>,
}

/// A read's place among those of its head, from when it is asked for until it is answered or nobody waits for it any more.
struct Place {
    heads: Arc<RoomHeads>,
    name: Name,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl RoomHeads {
    pub(super) fn new(store: Arc<dyn Store>, map: Arc<HeadMap>, names: Arc<Names>) -> Arc<Self> {
        Arc::new(Self { store, map, names, states: Cache::new(KEPT), asked: Mutex::default() })
    }

    pub(super) fn tell_size(&self) {
        metric::entries("rooms", self.states.len());
    }

    /// The log has reached `seq` at least, and its head there is this record.
    pub(super) fn moved_to(&self, name: Name, seq: Seq, head: &[u8]) -> Result<(), ReadError> {
        self.map.moved(name.0, name.1, seq);
        if self.states.get(&name).is_none_or(|known| known.seq < seq) {
            self.states.insert(name, Arc::new(RoomState { seq, room: RoomHead::decode(head)? }));
        }
        Ok(())
    }

    /// The id of a room by its log, if that was looked at lately.
    pub(super) fn id_of(&self, name: Name) -> Option<OwnedRoomId> {
        self.states.get(&name).map(|state| state.room.room_id.clone())
    }

    /// The head, if it is in memory and the head map says that it didn't move.
    pub(super) fn known(&self, key: LogKey) -> Option<Arc<RoomState>> {
        let known = match self.map.get(key.tenant, key.log) {
            None if planted(Mutation::AbsentIsUnmoved) => Seq::ZERO,
            known => known?,
        };
        self.states.get(&(key.tenant, key.log)).filter(|cached| cached.seq >= known)
    }

    /// The head, by a read that is issued after this call.
    pub(super) fn read(self: &Arc<Self>, key: LogKey) -> Shared<Read> {
        let name = (key.tenant, key.log);
        let mut asked = self.asked.lock();
        let reads = asked.entry(name).or_default();
        if let Some(next) = reads.next.as_ref().and_then(WeakShared::upgrade) {
            return next;
        }
        let place = Place { heads: Arc::clone(self), name, turn: Arc::clone(&reads.turn) };
        let next = async move {
            // One at a time: those who ask meanwhile share the next one.
            let _turn = place.turn.lock().await;
            place.issued();
            place.heads.read_now(key).await
        };
        let next = next.boxed().shared();
        reads.next = next.downgrade();
        next
    }

    async fn read_now(&self, key: LogKey) -> Answer {
        let name = (key.tenant, key.log);
        // Before the read.
        let reading = self.map.reading(key.log);
        let hint = match self.states.get(&name) {
            Some(cached) => cached.seq,
            None => read::projected_seq(&*self.store, key).await?,
        };
        let found = match read::head(&*self.store, key, hint, Consistency::Quorum).await {
            // Purged: there is no such room, until its name stands for another log.
            Err(LogError::Sealed) => {
                self.names.sealed(key);
                self.states.remove(&name);
                None
            }
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        let state = Arc::new(RoomState { seq: found.head.seq, room: RoomHead::decode(&found.head.state)? });
        self.map.read(reading, key.tenant, key.log, state.seq);
        self.states.insert(name, Arc::clone(&state));
        Ok(Some(state))
    }
}

impl Place {
    /// Who asks from now on waits for the next read.
    fn issued(&self) {
        if planted(Mutation::ReadUnderWayShared) {
            return;
        }
        if let Some(reads) = self.heads.asked.lock().get_mut(&self.name) {
            reads.next = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut asked = self.heads.asked.lock();
        // The map's and this one: nobody else reads or is about to.
        if asked.get(&self.name).is_some_and(|reads| Arc::strong_count(&reads.turn) <= 2) {
            asked.remove(&self.name);
        }
    }
}
