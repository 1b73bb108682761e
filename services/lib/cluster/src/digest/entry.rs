//! What one process tells others of its writes.

use bytes::Bytes;
use polity_core::{IncarnationId, LogId, Seq, TenantId};
use polity_store::MarkPlace;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 2;
/// Kinds of entries that this version knows.
const KINDS: u32 = 2;
/// The longest of them.
const ENTRY_BYTES: usize = 64;

/// A write, by what of it others need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A log has come so far.
    Head {
        /// Whose log.
        tenant: TenantId,
        /// Which.
        log: LogId,
        /// Its last row at least.
        seq: Seq,
    },
    /// A user's partition was written whose mark stands there.
    Mark(MarkPlace),
    /// Something of a kind that a later version tells. It has its number, and is nothing to this one, which keeps nothing of what was
    /// written: else all that version's entries would be a gap.
    #[serde(skip)]
    Later(u32),
}

/// Some entries of a process, without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The process.
    pub incarnation: IncarnationId,
    /// The number of the first entry: that of the next one, if there are none.
    pub first: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Bytes that are no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest of a known format")]
pub struct InvalidDigest;

impl Entry {
    fn encode<'a>(&self, room: &'a mut [u8; ENTRY_BYTES]) -> postcard::Result<&'a [u8]> {
        Ok(match self {
            Self::Later(kind) => postcard::to_slice(kind, room)?,
            known => postcard::to_slice(known, room)?,
        })
    }

    /// What follows the fields that this version knows is a later one's.
    fn decode(bytes: &[u8]) -> postcard::Result<Self> {
        match postcard::take_from_bytes(bytes)? {
            (kind @ KINDS.., _) => Ok(Self::Later(kind)),
            _ => postcard::from_bytes(bytes),
        }
    }

    /// No log gets further: what is known of heads is never lowered, so that nonsense would stay.
    fn can_be(&self) -> bool {
        !matches!(self, Self::Head { seq, .. } if *seq > Seq::MAX)
    }
}

impl Digest {
    /// The number of the last entry: of the one before `first`, if there are none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64).saturating_sub(1)
    }

    /// The bytes for the bus.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Encoding into memory can't fail; an empty message would be passed over.
        self.written().map(Bytes::from).unwrap_or_default()
    }

    /// Each entry has its length before it, so that who doesn't know its kind finds the next one.
    fn written(&self) -> postcard::Result<Vec<u8>> {
        let mut out = postcard::to_extend(&(self.incarnation, self.first, self.entries.len()), vec![FORMAT])?;
        for entry in &self.entries {
            out = postcard::to_extend(entry.encode(&mut [0; ENTRY_BYTES])?, out)?;
        }
        Ok(out)
    }

    /// Reads what [`Digest::encode`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidDigest> {
        match bytes {
            [FORMAT, rest @ ..] => {
                let digest = Self::read(rest).map_err(|_| InvalidDigest)?;
                digest.entries.iter().all(Entry::can_be).then_some(digest).ok_or(InvalidDigest)
            }
            _ => Err(InvalidDigest),
        }
    }

    fn read(bytes: &[u8]) -> postcard::Result<Self> {
        let (incarnation, first, entries): (_, _, Vec<&[u8]>) = postcard::from_bytes(bytes)?;
        let entries = entries.into_iter().map(Entry::decode).collect::<Result<_, _>>()?;
        Ok(Self { incarnation, first, entries })
    }
}
