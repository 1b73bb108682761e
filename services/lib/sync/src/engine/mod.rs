//! The sync engine: what is new to a client, worked out room by room.

mod answer;

pub use answer::{Answer, JoinedRoom, LeftRoom, StateSection, Summary, Timeline, Unread};
