//! What a client knows, while its answer is made.

use std::sync::Arc;

use polity_core::{
    LogKey, Position, Seq,
    sync_token::{EphemeralPosition, EphemeralPositions},
};

use super::{budget::Share, token::KnownRooms};

/// The positions of a client, but for its rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    /// In the user's record.
    pub record: Seq,
    /// In the inbox.
    pub inbox: Position,
    /// In the device-list changes.
    pub device_lists: Seq,
    /// In this process's memory.
    pub ephemeral: EphemeralPosition,
    /// In others' memory.
    pub elsewhere: EphemeralPositions,
}

/// What a request's token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knows {
    /// Everything up to its positions.
    Token,
    /// There is none: the client's first sync.
    Nothing,
    /// Its positions, but no longer its rooms: their snapshot is gone. Rooms are told anew, everything else goes on.
    NotItsRooms,
    /// The positions of another life of the store, which are void in this one: all is told anew.
    OtherStore,
}

/// What a client knows.
pub(crate) struct Progress {
    /// Its positions.
    pub at: Positions,
    /// Its rooms.
    pub rooms: KnownRooms,
    /// What its token said.
    pub knows: Knows,
    /// The device's inbox.
    pub inbox: LogKey,
    /// What the answer takes of the memory for answers.
    pub share: Arc<Share>,
}

impl Knows {
    /// Whether the client may believe that the user is in a room that it doesn't name: then also leaves of long ago are told.
    pub(crate) fn forgot_its_rooms(self) -> bool {
        matches!(self, Self::NotItsRooms | Self::OtherStore)
    }

    /// Whether the user's record is told from the beginning.
    pub(crate) fn lacks_the_record(self) -> bool {
        matches!(self, Self::Nothing | Self::OtherStore)
    }
}
