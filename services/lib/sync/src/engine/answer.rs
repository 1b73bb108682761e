//! What a sync finds, before it is written for one of the protocols.

use std::sync::Arc;

use bytes::Bytes;
use polity_accounts::KeyCounts;
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::budget::Share;

/// Everything that is new to a client. Events are rendered JSON.
#[derive(Debug, Default)]
pub struct Answer {
    /// The token for the next request.
    pub next_batch: String,
    /// Rooms that the user is in.
    pub joined: Vec<(OwnedRoomId, JoinedRoom)>,
    /// Invitations, with their stripped state.
    pub invited: Vec<(OwnedRoomId, Vec<Bytes>)>,
    /// Knocks, with their stripped state.
    pub knocked: Vec<(OwnedRoomId, Vec<Bytes>)>,
    /// Rooms that the user has left.
    pub left: Vec<(OwnedRoomId, LeftRoom)>,
    /// Global account data.
    pub account_data: Vec<Bytes>,
    /// To-device messages.
    pub to_device: Vec<Bytes>,
    /// Users whose devices changed or who share an encrypted room now.
    pub devices_changed: Vec<OwnedUserId>,
    /// Users who share none any more.
    pub devices_left: Vec<OwnedUserId>,
    /// How many keys the device has left.
    pub keys: Arc<KeyCounts>,
    /// What it takes of the memory for answers.
    pub(crate) share: Option<Arc<Share>>,
}

/// A room that the user is in.
#[derive(Debug, Default)]
pub struct JoinedRoom {
    /// New events.
    pub timeline: Timeline,
    /// State beside them.
    pub state: StateSection,
    /// Typing and receipts.
    pub ephemeral: Vec<Bytes>,
    /// The user's account data for the room.
    pub account_data: Vec<Bytes>,
    /// Unread counts: of the whole room, or of the main timeline if threads are counted apart.
    pub unread: Unread,
    /// Unread counts of threads, by their roots, where the filter asks for them.
    pub unread_threads: Option<Vec<(OwnedEventId, Unread)>>,
    /// Names for the room, when they changed.
    pub summary: Option<Summary>,
}

/// A room that the user has left.
#[derive(Debug, Default)]
pub struct LeftRoom {
    /// Events up to the leave.
    pub timeline: Timeline,
    /// State beside them.
    pub state: StateSection,
    /// The user's account data for the room.
    pub account_data: Vec<Bytes>,
}

/// Events in order.
#[derive(Debug, Default, Clone)]
pub struct Timeline {
    /// The events.
    pub events: Vec<Bytes>,
    /// Whether there are more before them that the client doesn't have.
    pub limited: bool,
    /// Where to page back from.
    pub prev_batch: Option<String>,
}

/// State, as it stands before the timeline begins or after it ends (MSC4222).
#[derive(Debug, Clone)]
pub enum StateSection {
    /// The changes between the last sync and the timeline's start, and those within the timeline that it doesn't show.
    Before(Vec<Bytes>),
    /// The changes between the last sync and the timeline's end.
    After(Vec<Bytes>),
}

/// How much is unread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Events that notify.
    pub notifications: u64,
    /// Events that mention the user.
    pub highlights: u64,
}

impl std::ops::AddAssign for Unread {
    fn add_assign(&mut self, other: Self) {
        self.notifications += other.notifications;
        self.highlights += other.highlights;
    }
}

/// What clients name a room by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many have joined.
    pub joined: u64,
    /// How many are invited.
    pub invited: u64,
    /// Members to name a nameless room by.
    pub heroes: Vec<OwnedUserId>,
}

impl Default for StateSection {
    fn default() -> Self {
        Self::Before(Vec::new())
    }
}

impl Answer {
    /// Whether there is nothing in it that a client waits for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_rooms()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.devices_changed.is_empty()
            && self.devices_left.is_empty()
    }

    /// Whether there is a room in it.
    #[must_use]
    pub fn has_rooms(&self) -> bool {
        !(self.joined.is_empty() && self.invited.is_empty() && self.knocked.is_empty() && self.left.is_empty())
    }

    /// About how many bytes it takes when written.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        let sum = |events: &[Bytes]| events.iter().map(|event| event.len() + 1).sum::<usize>();
        let joined = self.joined.iter().map(|(_, room)| 512 + sum(&room.timeline.events) + room.state.size());
        let left = self.left.iter().map(|(_, room)| 256 + sum(&room.timeline.events) + room.state.size());
        let invited = self.invited.iter().chain(&self.knocked).map(|(_, events)| 128 + sum(events));
        let own = 512 + self.next_batch.len() + sum(&self.account_data) + sum(&self.to_device);
        own + joined.chain(left).chain(invited).sum::<usize>()
    }
}

impl StateSection {
    pub(crate) fn is_empty(&self) -> bool {
        let (Self::Before(events) | Self::After(events)) = self;
        events.is_empty()
    }

    fn size(&self) -> usize {
        let (events, times) = match self {
            Self::Before(events) => (events, 1),
            Self::After(events) => (events, 2),
        };
        events.iter().map(|event| event.len() + 1).sum::<usize>() * times
    }
}
