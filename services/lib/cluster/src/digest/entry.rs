//! What one process tells others of its writes.

use bytes::Bytes;
use polity_core::{IncarnationId, LogId, Seq, TenantId};
use polity_store::MarkPlace;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;

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
}

/// Some entries of a process, without a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        postcard::to_extend(self, vec![FORMAT]).map(Bytes::from).unwrap_or_default()
    }

    /// Reads what [`Digest::encode`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidDigest> {
        match bytes {
            [FORMAT, rest @ ..] => {
                let digest: Self = postcard::from_bytes(rest).map_err(|_| InvalidDigest)?;
                digest.entries.iter().all(Entry::can_be).then_some(digest).ok_or(InvalidDigest)
            }
            _ => Err(InvalidDigest),
        }
    }
}
