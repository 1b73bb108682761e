//! The token of a sync: a set of positions (design section 4). Opaque to clients, behind a version byte and a short MAC.
//!
//! It rests on no clock, and names no room whole: a room is five bytes of its keyed hash, unless two of the user's rooms
//! share them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{IncarnationId, Life, Position, Seq, TenantId};

mod ephemeral;
mod varint;

pub use ephemeral::{EphemeralPosition, EphemeralPositions};
use varint::{Reader, put};

/// The version of tokens that this code writes.
const VERSION: u8 = 2;
/// The one before, with the place at one instance only.
const ONE_INSTANCE: u8 = 1;
/// The version of snapshots.
const SNAPSHOT_VERSION: u8 = 1;
const MAC_LEN: usize = 8;
const HASH_LEN: usize = 5;

/// How many rooms a token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomsHeld {
    /// All of them, up to so many; beyond, they are in a snapshot.
    pub inline: usize,
    /// So many that have moved or been dropped since the snapshot; beyond, there is a new one.
    pub moved: usize,
}

/// The secret with which a tenant's tokens are sealed and its rooms hashed.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

/// What the user was told to be in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// A member, by a join section.
    Member,
    /// Invited.
    Invited,
    /// Knocking.
    Knocking,
}

/// Which room an entry is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomRef {
    /// By its keyed hash.
    Hash([u8; HASH_LEN]),
    /// By its id: where two of the user's rooms share the hash.
    Full(Box<str>),
}

/// How far the client knows a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomEntry {
    /// What the client was told last.
    pub told: Told,
    /// Up to which row. A position is never lowered.
    pub position: Position,
}

/// The user's rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomSet {
    /// All of them.
    Inline(BTreeMap<RoomRef, RoomEntry>),
    /// An immutable snapshot, and what moved or (`None`) was dropped since.
    Snapshot {
        /// The snapshot.
        id: [u8; 16],
        /// The rooms that differ from it.
        moved: BTreeMap<RoomRef, Option<RoomEntry>>,
    },
}

/// A sync token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncToken {
    /// The life of the store: in another one all positions are void.
    pub store: IncarnationId,
    /// In the user's record.
    pub record: Seq,
    /// In the device's inbox; another life means from the beginning.
    pub inbox: Position,
    /// In the tenant's log of device-list changes.
    pub device_lists: Seq,
    /// In instances' memory.
    pub ephemeral: EphemeralPositions,
    /// In the rooms.
    pub rooms: RoomSet,
}

/// A text that is no token of this user and tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sync token of this user")]
pub struct InvalidToken;

// === impl TokenKey ===

impl TokenKey {
    /// The key made from a secret of the tenant's.
    #[must_use]
    pub fn derive(secret: &[u8], tenant: TenantId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("polity sync token v1");
        hasher.update(&tenant.get().to_be_bytes());
        hasher.update(secret);
        Self(*hasher.finalize().as_bytes())
    }

    /// The short name of a room.
    #[must_use]
    pub fn room(&self, room_id: &str) -> RoomRef {
        let hash = blake3::keyed_hash(&self.0, room_id.as_bytes());
        let mut short = [0; HASH_LEN];
        short.copy_from_slice(&hash.as_bytes()[..HASH_LEN]);
        RoomRef::Hash(short)
    }

    /// A token is good for one user only: the MAC covers whose it is.
    fn mac(&self, owner: &str, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(owner.len() as u64).to_be_bytes());
        hasher.update(owner.as_bytes());
        hasher.update(body);
        hasher.finalize()
    }
}

// === impl RoomsHeld ===

impl Default for RoomsHeld {
    fn default() -> Self {
        Self { inline: 400, moved: 100 }
    }
}

// === impl RoomSet ===

impl RoomSet {
    /// The empty set: of a client that knows nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::Inline(BTreeMap::new())
    }
}

// === impl SyncToken ===

impl SyncToken {
    /// The text that the client gets. `owner` is the user (and device) that it is for.
    #[must_use]
    pub fn encode(&self, key: &TokenKey, owner: &str) -> String {
        let mut out = vec![VERSION];
        out.extend([0; MAC_LEN]);
        out.extend(self.store.as_bytes());
        for number in
            [self.record.get(), u64::from(self.inbox.life.get()), self.inbox.seq.get(), self.device_lists.get()]
        {
            put(&mut out, number);
        }
        self.ephemeral.encode(&mut out);
        encode_rooms(&self.rooms, &mut out);
        let mac = key.mac(owner, &out[1 + MAC_LEN..]);
        out[1..=MAC_LEN].copy_from_slice(&mac.as_bytes()[..MAC_LEN]);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads a token that [`SyncToken::encode`] made for the same owner.
    ///
    /// # Errors
    /// For any other text.
    pub fn decode(text: &str, key: &TokenKey, owner: &str) -> Result<Self, InvalidToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidToken)?;
        let (&version, rest) = bytes.split_first().ok_or(InvalidToken)?;
        let (mac, body) = rest.split_at_checked(MAC_LEN).ok_or(InvalidToken)?;
        if !matches!(version, VERSION | ONE_INSTANCE) || !same(mac, &key.mac(owner, body).as_bytes()[..MAC_LEN]) {
            return Err(InvalidToken);
        }
        let mut reader = Reader::new(body);
        let token = Self {
            store: IncarnationId::from_slice(reader.take(16)?).map_err(|_| InvalidToken)?,
            record: Seq::new(reader.number()?),
            inbox: Position::new(life(reader.number()?)?, Seq::new(reader.number()?)),
            device_lists: Seq::new(reader.number()?),
            ephemeral: match version {
                ONE_INSTANCE => EphemeralPositions::default().with(EphemeralPositions::decode_one(&mut reader)?),
                _ => EphemeralPositions::decode(&mut reader)?,
            },
            rooms: decode_rooms(&mut reader)?,
        };
        if reader.is_empty() { Ok(token) } else { Err(InvalidToken) }
    }
}

/// Encodes a set of rooms alone: the content of a snapshot.
#[must_use]
pub fn encode_snapshot(rooms: &BTreeMap<RoomRef, RoomEntry>) -> Vec<u8> {
    let mut out = vec![SNAPSHOT_VERSION];
    put(&mut out, rooms.len() as u64);
    for (room, entry) in rooms {
        encode_entry(room, Some(entry), &mut out);
    }
    out
}

/// Reads what [`encode_snapshot`] wrote.
///
/// # Errors
/// For anything else.
pub fn decode_snapshot(bytes: &[u8]) -> Result<BTreeMap<RoomRef, RoomEntry>, InvalidToken> {
    let (&version, rest) = bytes.split_first().ok_or(InvalidToken)?;
    if version != SNAPSHOT_VERSION {
        return Err(InvalidToken);
    }
    let mut reader = Reader::new(rest);
    let count = reader.number()?;
    (0..count)
        .map(|_| decode_entry(&mut reader).and_then(|(room, entry)| Ok((room, entry.ok_or(InvalidToken)?))))
        .collect()
}

fn encode_rooms(rooms: &RoomSet, out: &mut Vec<u8>) {
    match rooms {
        RoomSet::Inline(rooms) => {
            out.push(0);
            put(out, rooms.len() as u64);
            for (room, entry) in rooms {
                encode_entry(room, Some(entry), out);
            }
        }
        RoomSet::Snapshot { id, moved } => {
            out.push(1);
            out.extend(id);
            put(out, moved.len() as u64);
            for (room, entry) in moved {
                encode_entry(room, entry.as_ref(), out);
            }
        }
    }
}

fn decode_rooms(reader: &mut Reader<'_>) -> Result<RoomSet, InvalidToken> {
    match reader.take(1)? {
        [0] => {
            let count = reader.number()?;
            let entries = (0..count)
                .map(|_| decode_entry(reader).and_then(|(room, entry)| Ok((room, entry.ok_or(InvalidToken)?))))
                .collect::<Result<_, _>>()?;
            Ok(RoomSet::Inline(entries))
        }
        [1] => {
            let id = reader.take(16)?.try_into().map_err(|_| InvalidToken)?;
            let count = reader.number()?;
            Ok(RoomSet::Snapshot { id, moved: (0..count).map(|_| decode_entry(reader)).collect::<Result<_, _>>()? })
        }
        _ => Err(InvalidToken),
    }
}

/// One entry: a byte of flags (what was told, whether the room stands there whole), the room, life, seq.
fn encode_entry(room: &RoomRef, entry: Option<&RoomEntry>, out: &mut Vec<u8>) {
    let told = match entry.map(|entry| entry.told) {
        Some(Told::Member) => 0,
        Some(Told::Invited) => 1,
        Some(Told::Knocking) => 2,
        None => 3,
    };
    let life = entry.map_or(0, |entry| u64::from(entry.position.life.get()));
    let full = u64::from(matches!(room, RoomRef::Full(_)));
    // Life 1 is by far the most frequent: flags and life together take one byte then.
    put(out, (life << 3) | (full << 2) | told);
    match room {
        RoomRef::Hash(hash) => out.extend(hash),
        RoomRef::Full(id) => {
            put(out, id.len() as u64);
            out.extend(id.as_bytes());
        }
    }
    if let Some(entry) = entry {
        put(out, entry.position.seq.get());
    }
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<(RoomRef, Option<RoomEntry>), InvalidToken> {
    let head = reader.number()?;
    let room = if head & 4 == 0 {
        RoomRef::Hash(reader.take(HASH_LEN)?.try_into().map_err(|_| InvalidToken)?)
    } else {
        let length = usize::try_from(reader.number()?).map_err(|_| InvalidToken)?;
        RoomRef::Full(std::str::from_utf8(reader.take(length)?).map_err(|_| InvalidToken)?.into())
    };
    let told = match head & 3 {
        0 => Told::Member,
        1 => Told::Invited,
        2 => Told::Knocking,
        _ => return Ok((room, None)),
    };
    let position = Position::new(life(head >> 3)?, Seq::new(reader.number()?));
    Ok((room, Some(RoomEntry { told, position })))
}

fn life(number: u64) -> Result<Life, InvalidToken> {
    u16::try_from(number).ok().and_then(|life| Life::new(life).ok()).ok_or(InvalidToken)
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
