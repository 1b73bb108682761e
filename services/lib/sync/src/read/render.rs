//! Events as a client gets them: what is the same for everybody is rendered once, `unsigned` is for the one who asks.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use bytes::Bytes;
use ruma_common::RoomId;

use super::{StoredRow, row::Event};

/// What one client is told beside an event.
#[derive(Debug, Default, Clone)]
pub struct Unsigned<'a> {
    /// How old the event is, in milliseconds.
    pub age_ms: Option<u64>,
    /// The client's own membership at the event.
    pub membership: Option<&'a str>,
    /// The client's own transaction id.
    pub transaction_id: Option<&'a str>,
    /// The state event that it replaced.
    pub replaced: Option<&'a Event>,
    /// The rendered event that redacted it.
    pub redacted_because: Option<Bytes>,
}

/// The event for a client; `room_id` where it doesn't follow from its place. `None` for a row without event.
#[must_use]
pub fn render(row: &StoredRow, room_id: Option<&RoomId>, unsigned: &Unsigned<'_>) -> Option<Bytes> {
    let event = row.event.as_ref()?;
    Some(finish(event.rendered(), room_id, unsigned))
}

/// Stripped state: what somebody who isn't in the room may see of it.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
#[must_use]
pub fn render_stripped(event: &Event) -> Bytes {
    let mut out = Vec::with_capacity(event.content.get().len() + 128);
    let mut field = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        let _ = serde_json::to_writer(&mut out, value);
    };
    field("{\"type\":", &event.event_type);
    field(",\"state_key\":", event.state_key.as_deref().unwrap_or_default());
    field(",\"sender\":", event.sender.as_str());
    out.extend_from_slice(b",\"content\":");
    out.extend_from_slice(event.content.get().as_bytes());
    out.push(b'}');
    out.into()
}

fn finish(start: &[u8], room_id: Option<&RoomId>, unsigned: &Unsigned<'_>) -> Bytes {
    let mut out = Vec::with_capacity(start.len() + 192);
    out.extend_from_slice(start);
    if let Some(room_id) = room_id {
        text(&mut out, ",\"room_id\":", room_id.as_str());
    }
    out.extend_from_slice(b",\"unsigned\":{");
    let before = out.len();
    if let Some(age) = unsigned.age_ms {
        out.extend_from_slice(format!(",\"age\":{age}").as_bytes());
    }
    if let Some(membership) = unsigned.membership {
        text(&mut out, ",\"membership\":", membership);
    }
    if let Some(transaction) = unsigned.transaction_id {
        text(&mut out, ",\"transaction_id\":", transaction);
    }
    if let Some(replaced) = unsigned.replaced {
        text(&mut out, ",\"replaces_state\":", replaced.event_id.as_str());
        text(&mut out, ",\"prev_sender\":", replaced.sender.as_str());
        out.extend_from_slice(b",\"prev_content\":");
        out.extend_from_slice(replaced.content.get().as_bytes());
    }
    if let Some(because) = &unsigned.redacted_because {
        out.extend_from_slice(b",\"redacted_because\":");
        out.extend_from_slice(because);
    }
    if out.len() > before {
        // The first field needs no comma.
        out.remove(before);
    }
    out.extend_from_slice(b"}}");
    out.into()
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    // Writing into memory can't fail.
    let _ = serde_json::to_writer(out, value);
}
