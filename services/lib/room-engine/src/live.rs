//! Rows of a room as they travel on the bus, from room-state to whoever watches the room.

use bytes::Bytes;
use polity_core::Seq;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 2;

/// Bytes that are no rows of a known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not live rows of a known format")]
pub struct InvalidLive;

/// A row of a room's log, as it was appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRow {
    /// Its number.
    pub seq: Seq,
    /// Its kind ([`crate::record::row_kind`]).
    pub kind: i64,
    /// Its event, where it has one.
    pub event_id: Option<Box<str>>,
    /// The device that sent it, and its transaction id: told to that device only.
    pub sent_by: Option<(Box<str>, Box<str>)>,
    /// Its body: see [`crate::record::RoomRow`].
    pub body: Vec<u8>,
}

/// Rows without a hole, and the room as it stands after the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The rows, oldest first.
    pub rows: Vec<LiveRow>,
    /// The head's record ([`crate::record::RoomHead`]), so that nobody who hears of the rows has to read it.
    pub head: Vec<u8>,
}

/// The bytes of news.
#[must_use]
pub fn encode(live: &Live) -> Bytes {
    // Encoding into memory can't fail; an empty message would be passed over as damaged.
    postcard::to_extend(live, vec![FORMAT]).map(Bytes::from).unwrap_or_default()
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// For anything else.
pub fn decode(bytes: &[u8]) -> Result<Live, InvalidLive> {
    match bytes {
        [FORMAT, rest @ ..] => postcard::from_bytes(rest).map_err(|_| InvalidLive),
        _ => Err(InvalidLive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_damage_is_found() {
        let sent_by = Some(("DEVICE".into(), "txn".into()));
        let row = LiveRow { seq: Seq::new(3), kind: 1, event_id: Some("$x".into()), sent_by, body: vec![1, 2, 3] };
        let live = Live { rows: vec![row], head: vec![4, 5] };
        let bytes = encode(&live);
        assert_eq!(decode(&bytes), Ok(live));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
    }
}
