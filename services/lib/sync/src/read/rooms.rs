//! The door to rooms for readers.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use polity_bus::{Subject, SubjectKind};
use polity_cluster::digest::Writers;
use polity_core::{
    LogId, LogKey, Seq, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::{LogRow, Names, read};
use polity_room_engine::{
    record::{RoomHead, Roots},
    state::{self, EventRef, Part},
};
use polity_store::{Consistency, Store, rooms};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{EventId, OwnedEventId, OwnedRoomId, RoomId};

use super::{
    Change, ReadError, StateView, StoredRow,
    head::RoomHeads,
    nodes::{AT_ONCE, BySize, NodeCache, ask, entries},
};
use crate::{heads::HeadMap, live::Interest, metric};

/// A room at a head.
#[derive(Debug, Clone)]
pub struct RoomState {
    /// The newest row.
    pub seq: Seq,
    /// What the head says.
    pub room: RoomHead,
}

#[derive(Clone)]
struct RowSize;

impl Weighter<(TenantId, LogId, Seq), Arc<StoredRow>> for RowSize {
    fn weight(&self, _key: &(TenantId, LogId, Seq), row: &Arc<StoredRow>) -> u64 {
        row.size() as u64
    }
}

/// Where events stand, by tenant.
type Places = Cache<(TenantId, OwnedEventId), (LogId, Seq)>;

/// Rows read at once past what is projected.
const UNPROJECTED_PAGE: usize = 256;

/// Rooms, for readers.
pub struct Rooms {
    store: Arc<dyn Store>,
    names: Arc<Names>,
    heads: Arc<RoomHeads>,
    /// Whether every write passes through this process.
    alone: bool,
    interest: Arc<Interest<StoredRow>>,
    rows: Cache<(TenantId, LogId, Seq), Arc<StoredRow>, RowSize>,
    places: Places,
    nodes: NodeCache,
}

impl Rooms {
    /// Rooms on a store that `writers` write, too; `cache_bytes` bounds rows and state nodes together.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        names: Arc<Names>,
        heads: Arc<HeadMap>,
        interest: Arc<Interest<StoredRow>>,
        writers: &Writers,
        cache_bytes: u64,
    ) -> Self {
        let half = cache_bytes / 2;
        let items = usize::try_from(half / 2048).unwrap_or(1024);
        Self {
            heads: RoomHeads::new(Arc::clone(&store), heads, Arc::clone(&names)),
            alone: writers.is_none(),
            store,
            names,
            interest,
            rows: Cache::with_weighter(items, half, RowSize),
            places: Cache::new(100_000),
            nodes: Cache::with_weighter(items, half, BySize),
        }
    }

    pub(crate) fn tell_sizes(&self) {
        metric::bytes("rows", self.rows.weight());
        metric::bytes("state_nodes", self.nodes.weight());
        self.heads.tell_size();
        metric::entries("places_of_events", self.places.len());
    }

    /// The log of a room, if this server has one.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn key(&self, tenant: TenantId, room_id: &RoomId) -> Result<Option<LogKey>, ReadError> {
        Ok(self.names.find(tenant, room_id.as_str()).await?)
    }

    /// The log has reached `seq` at least, and its head there is this record: its writer says so.
    ///
    /// # Errors
    /// If the record is damaged: it is read from the store, then.
    pub fn moved_to(&self, tenant: TenantId, log: LogId, seq: Seq, head: &[u8]) -> Result<(), ReadError> {
        self.heads.moved_to((tenant, log), seq, head)
    }

    /// The id of a room by its log, if that was looked at lately.
    #[must_use]
    pub fn id_of(&self, tenant: TenantId, log: LogId) -> Option<OwnedRoomId> {
        self.heads.id_of((tenant, log))
    }

    /// The room at its head. From memory only if the head map says that it didn't move.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn head(&self, key: LogKey) -> Result<Option<Arc<RoomState>>, ReadError> {
        self.head_from(key, Seq::ZERO).await
    }

    /// The room at its head, which is read if what is in memory is behind a row that a client was told of: one process may read a row
    /// before its writer knows that it stands, and has told the others.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn head_from(&self, key: LogKey, told: Seq) -> Result<Option<Arc<RoomState>>, ReadError> {
        match self.heads.known(key) {
            Some(state) if state.seq >= told => Ok(Some(state)),
            _ => self.heads.read(key).await,
        }
    }

    /// The room at a head read after this call: for what somebody may see or enter. Without other processes that write, the head map
    /// is as good.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn fresh_head(&self, key: LogKey) -> Result<Option<Arc<RoomState>>, ReadError> {
        let by_map = self.alone || planted(Mutation::AccessByMap);
        if by_map { self.head(key).await } else { self.heads.read(key).await }
    }

    /// The rows after `after`, oldest first: from memory if the room is watched and nothing is missing there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn after(&self, key: LogKey, after: Seq, limit: usize) -> Result<Vec<Arc<StoredRow>>, ReadError> {
        let rows = read::after(&*self.store, key, after, limit, Consistency::Quorum).await?;
        rows.into_iter().map(|row| self.keep(key, row)).collect()
    }

    /// The rows up to `from`, newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn back(&self, key: LogKey, from: Seq, limit: usize) -> Result<Vec<Arc<StoredRow>>, ReadError> {
        if let Some(rows) = self.in_memory(key, from, limit) {
            return Ok(rows);
        }
        let rows = read::back(&*self.store, key, from, limit).await?;
        rows.into_iter().map(|row| self.keep(key, row)).collect()
    }

    /// Rows up to `from` without a read, if all of them are at hand.
    fn in_memory(&self, key: LogKey, from: Seq, limit: usize) -> Option<Vec<Arc<StoredRow>>> {
        let count = u64::try_from(limit).ok()?.min(from.get());
        let subject = Subject::new(SubjectKind::Room, key.tenant, key.log);
        if let Some(rows) = self.interest.back(subject, from, usize::try_from(count).ok()?) {
            return Some(rows);
        }
        // Some may have come while the room was watched, and those before them been read.
        let watched = |seq| self.interest.back(subject, seq, 1)?.pop();
        let row = |seq| self.rows.get(&(key.tenant, key.log, seq)).or_else(|| watched(seq));
        (0..count).map(|n| row(Seq::new(from.get() - n))).collect()
    }

    fn keep(&self, key: LogKey, row: LogRow) -> Result<Arc<StoredRow>, ReadError> {
        let name = (key.tenant, key.log, row.seq);
        if let Some(kept) = self.rows.get(&name) {
            return Ok(kept);
        }
        let sent_by = row.device.zip(row.txn);
        let stored = Arc::new(StoredRow::new(row.seq, row.event_id.as_deref(), sent_by, &row.body)?);
        self.rows.insert(name, Arc::clone(&stored));
        Ok(stored)
    }

    /// The row of an event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn event(&self, tenant: TenantId, event_id: &EventId) -> Result<Option<Arc<StoredRow>>, ReadError> {
        Ok(self.event_in(tenant, event_id).await?.map(|(_, row)| row))
    }

    /// The row of an event of the room's state. A state is known as soon as it is durable, the index of its newest events comes
    /// after it: what isn't in the index is looked for in the rows past what is projected.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn event_of_state(&self, key: LogKey, event_id: &EventId) -> Result<Option<Arc<StoredRow>>, ReadError> {
        if let Some(row) = self.event(key.tenant, event_id).await? {
            return Ok(Some(row));
        }
        let mut at = read::projected_seq(&*self.store, key).await?;
        loop {
            let rows = self.after(key, at, UNPROJECTED_PAGE).await?;
            let is_it = |row: &&Arc<StoredRow>| row.event.as_ref().is_some_and(|event| *event.event_id == *event_id);
            if let Some(row) = rows.iter().find(is_it) {
                return Ok(Some(Arc::clone(row)));
            }
            match rows.last() {
                Some(last) => at = last.seq,
                // Projected meanwhile, if at all.
                None => return self.event(key.tenant, event_id).await,
            }
        }
    }

    /// The rows of some events of the room's state, in their order. The caller bounds how many are held at once.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn events_of_state(
        &self,
        key: LogKey,
        event_ids: &[impl AsRef<EventId> + Sync],
    ) -> Result<Vec<Arc<StoredRow>>, ReadError> {
        let reads: Vec<_> = event_ids.iter().map(|event_id| self.event_of_state(key, event_id.as_ref())).collect();
        let rows: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The row of an event, and the log in which it stands.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn event_in(
        &self,
        tenant: TenantId,
        event_id: &EventId,
    ) -> Result<Option<(LogId, Arc<StoredRow>)>, ReadError> {
        let name = (tenant, event_id.to_owned());
        let (log, seq) = match self.places.get(&name) {
            Some(place) => place,
            None => match rooms::place_of_event(&*self.store, tenant, event_id).await? {
                Some(place) => {
                    self.places.insert(name, (place.key.log, place.seq));
                    (place.key.log, place.seq)
                }
                None => return Ok(None),
            },
        };
        if let Some(row) = self.rows.get(&(tenant, log, seq)) {
            return Ok(Some((log, row)));
        }
        let key = LogKey { tenant, log, life: polity_core::Life::FIRST };
        let row = read::back(&*self.store, key, seq, 1).await?.pop();
        row.map(|row| Ok((log, self.keep(key, row)?))).transpose()
    }

    /// The id of a state event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_id(
        &self,
        key: LogKey,
        generation: u32,
        state: &StateView,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        if let Some(changed) = state.changed(event_type, state_key) {
            return Ok(changed.map(EventId::to_owned));
        }
        let (root, kind) = match Part::of(event_type) {
            Part::Entries => (state.roots.entries, event_type),
            Part::Members => (state.roots.members, ""),
        };
        ask(&*self.store, &self.nodes, (key, generation), |nodes| state::get(nodes, &root, kind, state_key)).await
    }

    /// A state event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn state_event(
        &self,
        key: LogKey,
        state: &StateView,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Arc<StoredRow>>, ReadError> {
        // Generations are raised by purges, which aren't built: the first one is the only one.
        match self.state_id(key, 0, state, event_type, state_key).await? {
            Some(id) => self.event_of_state(key, &id).await,
            None => Ok(None),
        }
    }

    /// All entries of a part of a state: type and key, and the event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn entries(
        &self,
        key: LogKey,
        generation: u32,
        state: &StateView,
        part: Part,
    ) -> Result<Vec<((String, String), OwnedEventId)>, ReadError> {
        let root = match part {
            Part::Entries => state.roots.entries,
            Part::Members => state.roots.members,
        };
        let entries = entries(&*self.store, &self.nodes, (key, generation), root).await?;
        let mut out = BTreeMap::new();
        for entry in entries {
            let kind = if part == Part::Members { "m.room.member" } else { &entry.event_type };
            let id = EventRef::to_id(&entry.event).map_err(|error| ReadError::Damaged(error.to_string()))?;
            out.insert((kind.to_owned(), entry.state_key.to_string()), id);
        }
        for change in state.changes.iter().filter(|change| Part::of(&change.event_type) == part) {
            let name = (change.event_type.clone(), change.state_key.clone());
            match &change.after {
                Some(id) => out.insert(name, id.clone()),
                None => out.remove(&name),
            };
        }
        Ok(out.into_iter().collect())
    }

    /// The events of at most `limit` members at a head, of whatever membership; no more nodes are read than they stand in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn some_members(
        &self,
        key: LogKey,
        generation: u32,
        roots: &Roots,
        limit: usize,
    ) -> Result<Vec<Arc<StoredRow>>, ReadError> {
        let question = |nodes: &dyn state::Nodes| state::first_entries(nodes, &roots.members, limit);
        let entries = ask(&*self.store, &self.nodes, (key, generation), question).await?;
        let ids: Result<Vec<_>, _> = entries.iter().map(|entry| EventRef::to_id(&entry.event)).collect();
        self.events_of_state(key, &ids.map_err(|error| ReadError::Damaged(error.to_string()))?).await
    }

    /// What differs between two states of a room.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn diff(
        &self,
        key: LogKey,
        generation: u32,
        before: &StateView,
        after: &StateView,
    ) -> Result<Vec<Change>, ReadError> {
        let mut keys: BTreeMap<(String, String), ()> = BTreeMap::new();
        let pairs = [
            (before.roots.entries, after.roots.entries, ""),
            (before.roots.members, after.roots.members, "m.room.member"),
        ];
        for (old, new, kind) in pairs {
            let question = |nodes: &dyn state::Nodes| state::diff(nodes, &old, &new);
            for difference in ask(&*self.store, &self.nodes, (key, generation), question).await? {
                let kind = if kind.is_empty() { difference.event_type.as_ref() } else { kind };
                keys.insert((kind.to_owned(), difference.state_key.to_string()), ());
            }
        }
        for change in before.changes.iter().chain(&after.changes) {
            keys.insert((change.event_type.clone(), change.state_key.clone()), ());
        }
        let mut out = Vec::new();
        for (event_type, state_key) in keys.into_keys() {
            let then = self.state_id(key, generation, before, &event_type, &state_key).await?;
            let now = self.state_id(key, generation, after, &event_type, &state_key).await?;
            if then != now {
                out.push(Change { event_type, state_key, then, now });
            }
        }
        Ok(out)
    }
}
