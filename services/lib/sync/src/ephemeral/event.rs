//! What travels on the bus.

use bytes::Bytes;
use ruma_common::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;

/// Bytes that are no ephemeral event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ephemeral event of a known format")]
pub struct InvalidEphemeral;

/// Something that happens in a room and isn't in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EphemeralEvent {
    /// Somebody types, or (timeout 0) stopped.
    Typing {
        /// Who.
        user_id: OwnedUserId,
        /// For how many milliseconds from now.
        timeout_ms: u32,
    },
    /// Somebody has read.
    Receipt(Receipt),
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who has read.
    pub user_id: OwnedUserId,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// In which thread (`main`, or its root); none: in the room.
    pub thread: Option<String>,
    /// Whether only its maker may see it (`m.read.private`).
    pub private: bool,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

impl EphemeralEvent {
    /// The bytes for the bus.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Encoding into memory can't fail; an empty message would be passed over.
        postcard::to_extend(self, vec![FORMAT]).map(Bytes::from).unwrap_or_default()
    }

    /// Reads what [`EphemeralEvent::encode`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEphemeral> {
        match bytes {
            [FORMAT, rest @ ..] => postcard::from_bytes(rest).map_err(|_| InvalidEphemeral),
            _ => Err(InvalidEphemeral),
        }
    }
}
