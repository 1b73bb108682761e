//! Who takes part in a load.

use super::{reader::MANNERS, world::WRITERS};

/// Who does something, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Writes and redacts events, and sets state.
    Writer(usize),
    /// Joins and leaves.
    Guest,
    /// Sends to a device.
    DeviceSender(usize),
    /// Uploads and claims one-time keys.
    Keys,
    /// Changes devices that somebody else follows.
    Devices,
    /// Sets account data.
    AccountData,
    /// Registers, one user after the other.
    Newcomers,
    /// Makes rooms.
    Founder,
    /// Reads.
    Receipts,
    /// Asks for something new and doesn't come back.
    Fickle,
    /// Is let into a room, is thrown out or leaves, and tries the door.
    Barred,
    /// Says something where nobody else does, once.
    LastWords,
    /// Changes a name that rooms show.
    Profile,
    /// Logs in and out.
    Sessions,
    /// Is of another tenant, where the residents have one.
    Neighbour,
}

/// Who takes part, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Who does something.
    pub actors: Vec<Actor>,
    /// The readers, by their number in the list of manners.
    pub readers: Vec<usize>,
    /// Pauses are so many times as long.
    pub slower: u64,
    /// All write to the last room.
    pub crowd: bool,
}

impl Mix {
    /// Everybody of one tenant, as fast as can be.
    #[must_use]
    pub fn whole() -> Self {
        let writers = (0..WRITERS).map(Actor::Writer);
        let others = [
            Actor::Guest,
            Actor::DeviceSender(0),
            Actor::DeviceSender(1),
            Actor::Keys,
            Actor::AccountData,
            Actor::Devices,
            Actor::Newcomers,
            Actor::Founder,
            Actor::Receipts,
            Actor::Fickle,
        ];
        Self { actors: writers.chain(others).collect(), readers: (0..MANNERS.len()).collect(), slower: 1, crowd: false }
    }
}
