//! The token of one request while the answer is made: what the client knows, and what it will know.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use polity_core::{
    LogKey, Random, Seq, TenantId,
    mutation::{Mutation, planted},
    sync_token::{RoomEntry, RoomRef, RoomSet, RoomsHeld, SyncToken, TokenKey, Told, decode_snapshot, encode_snapshot},
};
use polity_store::{Durability, Row, Store, Write, WriteKind, schema, values_of};
use ruma_common::RoomId;

use super::{Engine, SyncError, Viewer};
use crate::read::ReadError;

/// Snapshots live 30 days from last use.
const SNAPSHOT_TTL_S: u32 = 30 * 24 * 3600;
/// A snapshot in use is written again, the same, when so much time has passed since it was.
const SNAPSHOT_RENEWED_MS: u64 = 24 * 3600 * 1000;
/// Before a snapshot stands when it was written (Unix milliseconds).
const WRITTEN_LEN: usize = 8;

/// What the client knows of its rooms, by their short names.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownRooms {
    /// The snapshot that the token stands on, if it does.
    base: Option<[u8; 16]>,
    entries: BTreeMap<RoomRef, RoomEntry>,
    /// What differs from the snapshot.
    moved: BTreeMap<RoomRef, Option<RoomEntry>>,
    /// Short names that more than one of the user's rooms has: those stand in the token whole.
    collisions: HashSet<RoomRef>,
}

impl KnownRooms {
    /// Reads a token's rooms. A snapshot that is gone means that nothing is known: `None`.
    pub(crate) async fn load(
        store: &Arc<dyn Store>,
        tenant: TenantId,
        rooms: RoomSet,
        now_ms: u64,
    ) -> Result<Option<Self>, SyncError> {
        let (id, moved) = match rooms {
            RoomSet::Inline(entries) => return Ok(Some(Self { entries, ..Self::default() })),
            RoomSet::Snapshot { id, moved } => (id, moved),
        };
        let partition = values_of![tenant, Bytes::copy_from_slice(&id)];
        let row = store
            .get(&schema::SYNC_SNAPSHOTS, partition, values_of![0_i64], polity_store::Consistency::Quorum)
            .await
            .map_err(ReadError::from)?;
        let Some((written, snapshot)) = row.as_ref().and_then(|row| row.value.split_first_chunk::<WRITTEN_LEN>())
        else {
            return Ok(None);
        };
        let mut entries = decode_snapshot(snapshot)?;
        if now_ms.saturating_sub(u64::from_be_bytes(*written)) > SNAPSHOT_RENEWED_MS {
            write_snapshot(store, tenant, id, &entries, now_ms).await?;
        }
        for (room, entry) in &moved {
            match entry {
                Some(entry) => entries.insert(room.clone(), *entry),
                None => entries.remove(room),
            };
        }
        Ok(Some(Self { base: Some(id), entries, moved, ..Self::default() }))
    }

    /// Notes which of the user's rooms can't be told apart by their short names.
    pub(crate) fn note_collisions(&mut self, names: impl Iterator<Item = RoomRef>) {
        self.collisions = super::collect::repeated(names);
    }

    /// The name under which a room stands.
    fn place(&self, key: &TokenKey, room_id: &RoomId) -> RoomRef {
        let short = key.room(room_id.as_str());
        if self.collisions.contains(&short) { RoomRef::Full(room_id.as_str().into()) } else { short }
    }

    /// What the client knows of a room. A short entry that two rooms could mean is neither's: they are told anew.
    pub(crate) fn get(&self, key: &TokenKey, room_id: &RoomId) -> Option<RoomEntry> {
        let place = self.place(key, room_id);
        let whole = || self.entries.get(&RoomRef::Full(room_id.as_str().into()));
        self.entries.get(&place).or_else(|| if self.any_whole() { whole() } else { None }).copied()
    }

    /// What the client will know.
    pub(crate) fn set(&mut self, key: &TokenKey, room_id: &RoomId, entry: Option<RoomEntry>) {
        let place = self.place(key, room_id);
        match &place {
            RoomRef::Full(_) => self.change(&key.room(room_id.as_str()), None),
            RoomRef::Hash(_) if self.any_whole() => self.change(&RoomRef::Full(room_id.as_str().into()), None),
            RoomRef::Hash(_) => {}
        }
        self.change(&place, entry);
    }

    /// Whether a room stands whole: those are behind all short ones.
    fn any_whole(&self) -> bool {
        self.entries.last_key_value().is_some_and(|(name, _)| matches!(name, RoomRef::Full(_)))
    }

    fn change(&mut self, room: &RoomRef, entry: Option<RoomEntry>) {
        if self.entries.get(room).copied() == entry {
            return;
        }
        match entry {
            Some(entry) => self.entries.insert(room.clone(), entry),
            None => self.entries.remove(room),
        };
        if self.base.is_some() {
            self.moved.insert(room.clone(), entry);
        }
    }

    /// The rooms for the next token. A new snapshot is durable when this returns.
    pub(crate) async fn seal(
        self,
        store: &Arc<dyn Store>,
        random: &dyn Random,
        (tenant, held): (TenantId, RoomsHeld),
        now_ms: u64,
    ) -> Result<RoomSet, SyncError> {
        if self.entries.len() <= held.inline {
            return Ok(RoomSet::Inline(self.entries));
        }
        if let Some(id) = self.base
            && self.moved.len() <= held.moved
        {
            return Ok(RoomSet::Snapshot { id, moved: self.moved });
        }
        let id: [u8; 16] = match self.base {
            Some(id) if planted(Mutation::SnapshotChanged) => id,
            _ => random.bytes(),
        };
        write_snapshot(store, tenant, id, &self.entries, now_ms).await?;
        Ok(RoomSet::Snapshot { id, moved: BTreeMap::new() })
    }
}

async fn write_snapshot(
    store: &Arc<dyn Store>,
    tenant: TenantId,
    id: [u8; 16],
    entries: &BTreeMap<RoomRef, RoomEntry>,
    now_ms: u64,
) -> Result<(), SyncError> {
    let value = [&now_ms.to_be_bytes()[..], &encode_snapshot(entries)].concat();
    let write = Write {
        table: &schema::SYNC_SNAPSHOTS,
        partition: values_of![tenant, Bytes::copy_from_slice(&id)],
        row: Row::new(values_of![0_i64], value.into()),
        kind: WriteKind::Plain { ttl_s: SNAPSHOT_TTL_S },
    };
    store.put(vec![write], Durability::Acknowledged).await.map_err(ReadError::from)?;
    Ok(())
}

impl Engine {
    /// The last row of a room that a sync's token knows of; `None` if the user wasn't in the room by it.
    ///
    /// # Errors
    /// For a token that isn't this device's, and when its snapshot can't be read.
    pub async fn row_of_token(
        &self,
        viewer: &Viewer,
        text: &str,
        (room_id, key): (&RoomId, LogKey),
    ) -> Result<Option<Seq>, SyncError> {
        let token = SyncToken::decode(text, &viewer.token_key, viewer.token_owner())?;
        if token.store != self.store.incarnation() {
            return Ok(None);
        }
        let rooms = KnownRooms::load(&self.store, viewer.tenant, token.rooms, self.clock.now_ms()).await?;
        let entry = rooms.and_then(|rooms| rooms.get(&viewer.token_key, room_id));
        let entry = entry.filter(|entry| entry.told == Told::Member && entry.position.life == key.life);
        Ok(entry.map(|entry| entry.position.seq))
    }
}
