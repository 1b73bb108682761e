//! What stands in a room's log: the body of a row and the machine's part of the head, each behind a format byte and the id of
//! the key that it is encrypted with (0: none). Written by room-state, read by sync.

use bytes::{BufMut, Bytes, BytesMut};
use polity_core::Seq;
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The format that this code writes; it reads no newer one.
const FORMAT: u8 = 1;
/// Not encrypted.
const KEY_NONE: u8 = 0;

/// Kinds of rows: the `kind` column of a room's log.
pub mod row_kind {
    /// An event that changes no state.
    pub const EVENT: i64 = 1;
    /// A state event.
    pub const STATE: i64 = 2;
    /// A change of state without an event of its own (state resolution).
    pub const STATE_CHANGE: i64 = 3;
    /// Neither (seals, notes to ourselves): invisible to clients.
    pub const CONTROL: i64 = 4;
}

/// A record that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer version, or not a record at all.
    #[error("record of format {0}, which this version doesn't know")]
    Format(u8),
    /// Encrypted with a key that isn't at hand.
    #[error("record encrypted with the unknown key {0}")]
    Key(u8),
    /// Damaged.
    #[error("damaged record: {0}")]
    Damaged(String),
}

/// The roots of a room's state: entries and members apart. All zero: empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roots {
    /// The root of everything but memberships.
    pub entries: [u8; 32],
    /// The root of the memberships.
    pub members: [u8; 32],
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDelta {
    /// The event type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// What stood there (also what `unsigned.replaces_state` says).
    pub before: Option<OwnedEventId>,
    /// What stands there now.
    pub after: Option<OwnedEventId>,
}

/// The running counts of unread counting, after the row (design section 4, "Unread counts").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that notify everybody by the default rules.
    pub notifying: u64,
    /// Rows that highlight for everybody (`@room`).
    pub highlights: u64,
    /// Counted rows that were redacted since.
    pub redacted: u64,
}

/// What a user's membership was and since when, on a row that changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// Whose.
    pub user_id: OwnedUserId,
    /// What it is after the row: `join`, `leave`, `invite`, `ban`, `knock`.
    pub membership: String,
    /// Where this stretch (or invitation) began: a profile change doesn't move it.
    pub since: Seq,
    /// Whether it was another membership before.
    pub changed: bool,
}

/// Everything of a row but its event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMeta {
    /// The first row of the group that this one was appended with.
    pub group_first: Seq,
    /// The state before that first row: with the deltas of the rows between, the state at this one.
    pub roots: Roots,
    /// How this row changes the state: empty when it doesn't (a state event that lost).
    pub deltas: Vec<StateDelta>,
    /// The membership that it changes.
    pub membership: Option<MembershipChange>,
    /// For an effective redaction: its target and the row on which that stands.
    pub redacts: Option<(OwnedEventId, Option<Seq>)>,
    /// The running counts after it.
    pub counts: Counts,
    /// Whether it counts as notifying by the default rules.
    pub notifies: bool,
    /// The thread it belongs to, by its root.
    pub thread: Option<OwnedEventId>,
    /// When we received it (Unix milliseconds).
    pub received_ms: u64,
    /// On a row that puts the room into the directory or takes it out: whether it stands there from now on.
    pub listed: Option<bool>,
}

/// A row's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// Everything but the event.
    pub meta: RowMeta,
    /// The PDU as canonical JSON, hashed and signed; empty on rows without an event.
    pub pdu: Bytes,
}

/// What lists and directories show of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many have joined.
    pub joined: u64,
    /// How many are invited.
    pub invited: u64,
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// `m.room.avatar`.
    pub avatar_url: Option<String>,
    /// `m.room.canonical_alias`.
    pub canonical_alias: Option<String>,
    /// `m.room.join_rules`; absent means invite.
    pub join_rule: Option<String>,
    /// `m.room.history_visibility`; absent means shared.
    pub history_visibility: Option<String>,
    /// `m.room.guest_access`; absent means forbidden.
    pub guest_access: Option<String>,
    /// The algorithm of `m.room.encryption`, empty where that names none.
    pub encryption: Option<String>,
    /// `type` of the create event.
    pub room_type: Option<String>,
    /// The first members that joined or were invited, at most six: a name for rooms without one.
    pub heroes: Vec<OwnedUserId>,
}

/// The room's part of the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHead {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// Its create event.
    pub create_event: OwnedEventId,
    /// Forward extremities: what the next event names as its `prev_events`.
    pub extremities: Vec<OwnedEventId>,
    /// The greatest depth.
    pub depth: u64,
    /// The current state.
    pub roots: Roots,
    /// The generation of state nodes (raised by a purge).
    pub generation: u32,
    /// The running counts.
    pub counts: Counts,
    /// For lists.
    pub summary: Summary,
    /// How many redactions took effect: readers look for them only when it moved.
    pub redactions: u64,
    /// When the newest event came (Unix milliseconds).
    pub last_event_ms: u64,
    /// Whether it stands in the directory.
    pub listed: bool,
}

// === impl RoomRow ===

impl RoomRow {
    /// The bytes to store.
    ///
    /// # Errors
    /// Never in practice: encoding into memory.
    pub fn encode(&self) -> Result<Bytes, RecordError> {
        let meta = postcard::to_stdvec(&self.meta).map_err(damaged)?;
        let length = u32::try_from(meta.len()).map_err(|_| RecordError::Damaged("meta of over 4 GiB".into()))?;
        let mut out = BytesMut::with_capacity(6 + meta.len() + self.pdu.len());
        out.put_u8(FORMAT);
        out.put_u8(KEY_NONE);
        out.put_u32(length);
        out.put_slice(&meta);
        out.put_slice(&self.pdu);
        Ok(out.freeze())
    }

    /// Reads what [`RoomRow::encode`] wrote; the event shares the bytes of `body`.
    ///
    /// # Errors
    /// When it isn't such a record.
    pub fn decode(body: &Bytes) -> Result<Self, RecordError> {
        let rest = checked(body)?;
        let (length, rest) = rest.split_at_checked(4).ok_or_else(short)?;
        let length = u32::from_be_bytes(length.try_into().map_err(|_| short())?) as usize;
        let meta = rest.get(..length).ok_or_else(short)?;
        let meta = postcard::from_bytes(meta).map_err(damaged)?;
        Ok(Self { meta, pdu: body.slice(6 + length..) })
    }
}

// === impl RoomHead ===

impl RoomHead {
    /// The bytes to store.
    ///
    /// # Errors
    /// Never in practice: encoding into memory.
    pub fn encode(&self) -> Result<Bytes, RecordError> {
        encode_plain(self)
    }

    /// Reads what [`RoomHead::encode`] wrote.
    ///
    /// # Errors
    /// When it isn't such a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode_plain(bytes)
    }
}

fn encode_plain<T: Serialize>(value: &T) -> Result<Bytes, RecordError> {
    postcard::to_extend(value, vec![FORMAT, KEY_NONE]).map(Bytes::from).map_err(damaged)
}

fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    postcard::from_bytes(checked(bytes)?).map_err(damaged)
}

/// What follows the format byte and the key id.
fn checked(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match bytes {
        [FORMAT, KEY_NONE, rest @ ..] => Ok(rest),
        [FORMAT, key, ..] => Err(RecordError::Key(*key)),
        [format, ..] => Err(RecordError::Format(*format)),
        [] => Err(short()),
    }
}

fn short() -> RecordError {
    RecordError::Damaged("cut short".into())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn damaged(error: postcard::Error) -> RecordError {
    RecordError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use ruma_common::{owned_event_id, owned_user_id};

    use super::*;

    fn row() -> RoomRow {
        RoomRow {
            meta: RowMeta {
                group_first: Seq::new(7),
                roots: Roots { entries: [1; 32], members: [2; 32] },
                deltas: vec![StateDelta {
                    event_type: "m.room.member".into(),
                    state_key: "@a:b".into(),
                    before: None,
                    after: Some(owned_event_id!("$x")),
                }],
                membership: Some(MembershipChange {
                    user_id: owned_user_id!("@a:b"),
                    membership: "join".into(),
                    since: Seq::new(7),
                    changed: true,
                }),
                ..RowMeta::default()
            },
            pdu: Bytes::from_static(b"{\"type\":\"m.room.member\"}"),
        }
    }

    #[test]
    fn a_row_comes_back_whole_and_shares_its_event() {
        let body = row().encode().unwrap();
        assert_eq!(RoomRow::decode(&body).unwrap(), row());
    }

    #[test]
    fn every_damaged_record_is_an_error() {
        let body = row().encode().unwrap();
        assert_eq!(RoomRow::decode(&Bytes::new()), Err(RecordError::Damaged("cut short".into())));
        assert_eq!(RoomRow::decode(&Bytes::from_static(&[9, 0])), Err(RecordError::Format(9)));
        assert_eq!(RoomRow::decode(&Bytes::from_static(&[1, 3])), Err(RecordError::Key(3)));
        for length in 0..body.len() - row().pdu.len() {
            assert!(RoomRow::decode(&body.slice(..length)).is_err(), "{length}");
        }
    }
}
