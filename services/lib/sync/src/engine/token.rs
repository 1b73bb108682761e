//! The token of one request while the answer is made: what the client knows, and what it will know.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use polity_core::{
    LogKey, Random, Seq, TenantId,
    sync_token::{
        INLINE_ROOMS, MOVED_ROOMS, RoomEntry, RoomRef, RoomSet, SyncToken, TokenKey, Told, decode_snapshot,
        encode_snapshot,
    },
};
use polity_store::{Durability, Row, Store, Write, WriteKind, schema, values_of};
use ruma_common::RoomId;

use super::{Engine, SyncError, SyncRequest, Viewer};
use crate::read::ReadError;

/// Snapshots live 30 days from last use.
const SNAPSHOT_TTL_S: u32 = 30 * 24 * 3600;

/// What the client knows of its rooms, by their short names.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownRooms {
    /// The snapshot that the token stands on, if it does.
    base: Option<[u8; 16]>,
    entries: BTreeMap<RoomRef, RoomEntry>,
    /// What differs from the snapshot.
    moved: BTreeMap<RoomRef, Option<RoomEntry>>,
}

impl KnownRooms {
    /// Reads a token's rooms. A snapshot that is gone means that nothing is known: `None`.
    pub(crate) async fn load(store: &dyn Store, tenant: TenantId, rooms: RoomSet) -> Result<Option<Self>, SyncError> {
        match rooms {
            RoomSet::Inline(entries) => Ok(Some(Self { base: None, entries, moved: BTreeMap::new() })),
            RoomSet::Snapshot { id, moved } => {
                let partition = values_of![tenant, Bytes::copy_from_slice(&id)];
                let row = store
                    .get(&schema::SYNC_SNAPSHOTS, partition, values_of![0_i64], polity_store::Consistency::Quorum)
                    .await
                    .map_err(ReadError::from)?;
                let Some(mut entries) = row.and_then(|row| decode_snapshot(&row.value).ok()) else { return Ok(None) };
                for (room, entry) in &moved {
                    match entry {
                        Some(entry) => entries.insert(room.clone(), *entry),
                        None => entries.remove(room),
                    };
                }
                Ok(Some(Self { base: Some(id), entries, moved }))
            }
        }
    }

    /// What the client knows of a room.
    pub(crate) fn get(&self, key: &TokenKey, room_id: &RoomId) -> Option<RoomEntry> {
        let full = RoomRef::Full(room_id.as_str().into());
        self.entries.get(&full).or_else(|| self.entries.get(&key.room(room_id.as_str()))).copied()
    }

    /// What the client will know. `alone`: no other room of the user has the same short name.
    pub(crate) fn set(&mut self, key: &TokenKey, room_id: &RoomId, entry: Option<RoomEntry>, alone: bool) {
        let full = RoomRef::Full(room_id.as_str().into());
        let short = key.room(room_id.as_str());
        let (place, other) = if alone { (short, full) } else { (full, short) };
        self.change(&other, None);
        self.change(&place, entry);
    }

    /// What the client will know of a room that it knows already, under the name that it has there.
    pub(crate) fn advance(&mut self, key: &TokenKey, room_id: &RoomId, entry: RoomEntry) {
        let full = RoomRef::Full(room_id.as_str().into());
        let place = if self.entries.contains_key(&full) { full } else { key.room(room_id.as_str()) };
        self.change(&place, Some(entry));
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
        request: &SyncRequest,
    ) -> Result<RoomSet, SyncError> {
        if self.entries.len() <= INLINE_ROOMS {
            return Ok(RoomSet::Inline(self.entries));
        }
        if let Some(id) = self.base
            && self.moved.len() <= MOVED_ROOMS
        {
            return Ok(RoomSet::Snapshot { id, moved: self.moved });
        }
        let id: [u8; 16] = random.bytes();
        let write = Write {
            table: &schema::SYNC_SNAPSHOTS,
            partition: values_of![request.viewer.tenant, Bytes::copy_from_slice(&id)],
            row: Row::new(values_of![0_i64], encode_snapshot(&self.entries).into()),
            kind: WriteKind::Plain { ttl_s: SNAPSHOT_TTL_S },
        };
        store.put(vec![write], Durability::Acknowledged).await.map_err(ReadError::from)?;
        Ok(RoomSet::Snapshot { id, moved: BTreeMap::new() })
    }
}

/// A token, if it is one of this device's and of this store's life.
pub(crate) fn decode(store: &dyn Store, viewer: &Viewer, text: &str) -> Result<Option<SyncToken>, SyncError> {
    let token = SyncToken::decode(text, &viewer.token_key, &viewer.token_owner())?;
    // After a restore all positions are void: everything is told anew, nothing is missed.
    Ok((token.store == store.incarnation()).then_some(token))
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
        let Some(token) = decode(&*self.store, viewer, text)? else { return Ok(None) };
        let rooms = KnownRooms::load(&*self.store, viewer.tenant, token.rooms).await?;
        let entry = rooms.and_then(|rooms| rooms.get(&viewer.token_key, room_id));
        let entry = entry.filter(|entry| entry.told == Told::Member && entry.position.life == key.life);
        Ok(entry.map(|entry| entry.position.seq))
    }
}
