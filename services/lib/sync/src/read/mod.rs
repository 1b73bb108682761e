//! Reading rooms: heads, rows, events and states, through bounded caches of what never changes.

mod head;
mod nodes;
mod render;
mod rooms;
mod row;
mod view;

use polity_core::{Classified, ErrorKind};
use polity_log::LogError;
use polity_room_engine::record::RecordError;
use polity_store::StoreError;

pub use polity_room_engine::state::Part;
pub use render::{Unsigned, render, render_stripped};
pub use rooms::{RoomState, Rooms};
pub use row::{Event, StoredRow};
pub use view::{Change, StateView};

/// A room that can't be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Something that should be there isn't.
    #[error("damaged room: {0}")]
    Damaged(String),
}

impl Classified for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Record(_) | Self::Damaged(_) => ErrorKind::Internal,
        }
    }
}
