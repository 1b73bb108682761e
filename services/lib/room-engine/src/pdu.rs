//! An event as the room's log holds it: immutable, cheap to clone, with its content kept raw.

use std::sync::Arc;

use bytes::Bytes;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    room_version_rules::RoomVersionRules,
};
use ruma_events::{TimelineEventType, room::member::MembershipState};
use ruma_state_res::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

/// An event that can't be read from its stored bytes.
#[derive(Debug, thiserror::Error)]
#[error("the stored event {event_id} can't be read: {source}")]
pub struct UnreadablePdu {
    /// Which one.
    pub event_id: OwnedEventId,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

/// An immutable event. Cloning it counts a reference.
#[derive(Debug, Clone)]
pub struct Pdu(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) event_id: OwnedEventId,
    pub(crate) room_id: OwnedRoomId,
    /// Whether the event itself names its room: not so a create event whose hash is the room's id.
    pub(crate) names_room: bool,
    pub(crate) sender: OwnedUserId,
    pub(crate) event_type: TimelineEventType,
    pub(crate) state_key: Option<String>,
    pub(crate) content: Box<RawValue>,
    pub(crate) origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub(crate) depth: u64,
    pub(crate) prev_events: Vec<OwnedEventId>,
    pub(crate) auth_events: Vec<OwnedEventId>,
    pub(crate) redacts: Option<OwnedEventId>,
    pub(crate) json: Bytes,
}

/// The fields of a stored event, its content unparsed.
#[derive(Deserialize)]
struct Stored<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    state_key: Option<String>,
    #[serde(borrow)]
    content: &'a RawValue,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    #[serde(default)]
    depth: u64,
    #[serde(default)]
    prev_events: Vec<OwnedEventId>,
    #[serde(default)]
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct RedactionContent {
    redacts: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: MembershipState,
}

// === impl Pdu ===

impl Pdu {
    /// Reads an event from the canonical JSON that [`Pdu::json`] gave. What was verified once isn't verified again.
    ///
    /// # Errors
    /// When the bytes are no event.
    pub fn from_stored(
        event_id: OwnedEventId,
        room_id: OwnedRoomId,
        json: Bytes,
        rules: &RoomVersionRules,
    ) -> Result<Self, UnreadablePdu> {
        let stored: Stored<'_> = match serde_json::from_slice(&json) {
            Ok(stored) => stored,
            Err(source) => return Err(UnreadablePdu { event_id, source }),
        };
        let redacts = redacted_id(&stored.event_type, stored.content, stored.redacts, rules);
        Ok(Self::new(Inner {
            event_id,
            room_id,
            names_room: stored.room_id.is_some(),
            sender: stored.sender,
            event_type: stored.event_type,
            state_key: stored.state_key,
            content: stored.content.to_owned(),
            origin_server_ts: stored.origin_server_ts,
            depth: stored.depth,
            prev_events: stored.prev_events,
            auth_events: stored.auth_events,
            redacts,
            json,
        }))
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.0.event_id
    }

    /// The room that it belongs to, also when the event itself doesn't name it (a create event since version 12).
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.0.room_id
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.0.sender
    }

    /// Its type.
    #[must_use]
    pub fn event_type(&self) -> &TimelineEventType {
        &self.0.event_type
    }

    /// Its state key: present on state events only.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.0.state_key.as_deref()
    }

    /// Its content, unparsed.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        &self.0.content
    }

    /// When the sender's server says that it was sent.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.origin_server_ts
    }

    /// One more than the greatest depth of the events before it.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.0.depth
    }

    /// The events before it.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.0.prev_events
    }

    /// The events that allow it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.0.auth_events
    }

    /// For a redaction: its target, from wherever the room's version keeps it.
    #[must_use]
    pub fn redacts(&self) -> Option<&OwnedEventId> {
        self.0.redacts.as_ref()
    }

    /// The whole event as canonical JSON, hashed and signed.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.0.json
    }

    /// The membership that a member event sets; none on other events and on malformed content.
    #[must_use]
    pub fn membership(&self) -> Option<MembershipState> {
        if self.0.event_type != TimelineEventType::RoomMember || self.0.state_key.is_none() {
            return None;
        }
        serde_json::from_str::<MemberContent>(self.0.content.get()).ok().map(|content| content.membership)
    }
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.0.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.0.names_room.then_some(&*self.0.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.0.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.0.event_type
    }

    fn content(&self) -> &RawValue {
        &self.0.content
    }

    fn state_key(&self) -> Option<&str> {
        self.0.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.0.redacts.as_ref()
    }

    /// Rejected events never become a [`Pdu`] that others may cite.
    fn rejected(&self) -> bool {
        false
    }
}

/// The target of a redaction, read where this version keeps it: in the content or at the top.
pub(crate) fn redacted_id(
    event_type: &TimelineEventType,
    content: &RawValue,
    top: Option<OwnedEventId>,
    rules: &RoomVersionRules,
) -> Option<OwnedEventId> {
    if *event_type != TimelineEventType::RoomRedaction {
        return None;
    }
    if !rules.redaction.content_field_redacts {
        return top;
    }
    serde_json::from_str::<RedactionContent>(content.get()).ok().and_then(|content| content.redacts)
}
