//! A row of a room's log as readers have it, and how its event is rendered for clients.

use std::sync::OnceLock;

use bytes::Bytes;
use polity_core::Seq;
use polity_room_engine::{
    live::LiveRow,
    pdu::{Pdu, UnreadablePdu},
    record::{RecordError, RoomRow, RowMeta},
    redact,
};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, RoomId, UserId, room_version_rules::RoomVersionRules};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A row of a room's log.
#[derive(Debug)]
pub struct StoredRow {
    /// Its number.
    pub seq: Seq,
    /// Everything but the event.
    pub meta: RowMeta,
    /// The event, where it has one.
    pub event: Option<Event>,
    /// The device that sent it, and its transaction id.
    sent_by: Option<(Box<str>, Box<str>)>,
}

/// What readers need of an event.
#[derive(Debug)]
pub struct Event {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its sender.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Box<RawValue>,
    /// Its sender's clock, in Unix milliseconds.
    pub origin_server_ts: u64,
    /// What it redacts, wherever its room version has that.
    pub redacts: Option<OwnedEventId>,
    /// The PDU, hashed and signed.
    pub pdu: Bytes,
    /// The client format without `room_id`, `unsigned` and the closing brace.
    rendered: OnceLock<Bytes>,
}

/// Of a PDU, what clients see.
#[derive(Deserialize)]
struct PduFields {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
    content: Box<RawValue>,
    origin_server_ts: u64,
    redacts: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct RedactsInContent {
    redacts: Option<OwnedEventId>,
}

// === impl StoredRow ===

impl StoredRow {
    /// The row as it stands in the log.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn new(
        seq: Seq,
        event_id: Option<&str>,
        sent_by: Option<(Box<str>, Box<str>)>,
        body: &Bytes,
    ) -> Result<Self, RecordError> {
        let RoomRow { meta, pdu } = RoomRow::decode(body)?;
        let event = match event_id {
            Some(event_id) if !pdu.is_empty() => Some(Event::parse(event_id, pdu)?),
            _ => None,
        };
        Ok(Self { seq, meta, event, sent_by })
    }

    /// The row as it came over the bus.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_live(row: LiveRow) -> Result<Self, RecordError> {
        Self::new(row.seq, row.event_id.as_deref(), row.sent_by, &Bytes::from(row.body))
    }

    /// The client's transaction id, if `device` (the log's name of a sending device) sent it. The log has the endpoint before it, on
    /// a line of its own.
    #[must_use]
    pub fn transaction_of(&self, device: &str) -> Option<&str> {
        let (_, txn) = self.sent_by.as_ref().filter(|(sender, _)| **sender == *device)?;
        txn.split_once('\n').map(|(_, txn)| txn)
    }

    /// The row with what redaction leaves of its event.
    ///
    /// # Errors
    /// When the stored event isn't what it should be.
    pub fn redacted(&self, room_id: &RoomId, rules: &RoomVersionRules) -> Result<Self, RecordError> {
        let event = self.event.as_ref().map(|event| event.redacted(room_id, rules)).transpose()?;
        Ok(Self { seq: self.seq, meta: self.meta.clone(), event, sent_by: self.sent_by.clone() })
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        // The event's fields, content and rendered form repeat most of the PDU.
        256 + self.event.as_ref().map_or(0, |event| 3 * event.pdu.len()) + 128 * self.meta.deltas.len()
    }
}

// === impl Event ===

impl Event {
    fn parse(event_id: &str, pdu: Bytes) -> Result<Self, RecordError> {
        let damaged = |what: String| RecordError::Damaged(what);
        let event_id = EventId::parse(event_id).map_err(|error| damaged(error.to_string()))?;
        let fields: PduFields = serde_json::from_slice(&pdu).map_err(|error| damaged(error.to_string()))?;
        let redacts = match fields.redacts {
            None if fields.event_type == "m.room.redaction" => {
                serde_json::from_str::<RedactsInContent>(fields.content.get()).ok().and_then(|content| content.redacts)
            }
            redacts => redacts,
        };
        Ok(Self {
            event_id,
            sender: fields.sender,
            event_type: fields.event_type,
            state_key: fields.state_key,
            content: fields.content,
            origin_server_ts: fields.origin_server_ts,
            redacts,
            pdu,
            rendered: OnceLock::new(),
        })
    }

    fn redacted(&self, room_id: &RoomId, rules: &RoomVersionRules) -> Result<Self, RecordError> {
        let damaged = |error: UnreadablePdu| RecordError::Damaged(error.to_string());
        let pdu = Pdu::from_stored(self.event_id.clone(), room_id.to_owned(), self.pdu.clone(), rules);
        let redacted = redact::redact(&pdu.map_err(damaged)?, rules).map_err(damaged)?;
        Self::parse(self.event_id.as_str(), redacted.json().clone())
    }

    /// Whether this is the membership of `user_id`.
    #[must_use]
    pub fn is_membership_of(&self, user_id: &UserId) -> bool {
        self.event_type == "m.room.member" && self.state_key.as_deref() == Some(user_id.as_str())
    }

    /// A text field of the content.
    #[must_use]
    pub fn content_text(&self, field: &str) -> Option<String> {
        let content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(self.content.get()).ok()?;
        content.get(field)?.as_str().map(str::to_owned)
    }

    /// The client format up to `unsigned`: `{"type":...,"origin_server_ts":...`. Made once.
    pub(super) fn rendered(&self) -> &Bytes {
        self.rendered.get_or_init(|| {
            render_start(
                &self.event_type,
                self.state_key.as_deref(),
                self.content.get(),
                (&self.event_id, &self.sender, self.origin_server_ts),
                self.redacts.as_deref(),
            )
        })
    }
}

/// Writes the client format without its end.
pub(super) fn render_start(
    event_type: &str,
    state_key: Option<&str>,
    content: &str,
    (event_id, sender, origin_server_ts): (&EventId, &UserId, u64),
    redacts: Option<&EventId>,
) -> Bytes {
    let mut out = Vec::with_capacity(content.len() + 256);
    let mut field = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        // Writing into memory can't fail.
        let _ = serde_json::to_writer(&mut out, value);
    };
    field("{\"type\":", event_type);
    field(",\"event_id\":", event_id.as_str());
    field(",\"sender\":", sender.as_str());
    if let Some(state_key) = state_key {
        field(",\"state_key\":", state_key);
    }
    if let Some(redacts) = redacts {
        field(",\"redacts\":", redacts.as_str());
    }
    out.extend_from_slice(b",\"content\":");
    out.extend_from_slice(content.as_bytes());
    out.extend_from_slice(format!(",\"origin_server_ts\":{origin_server_ts}").as_bytes());
    out.into()
}
