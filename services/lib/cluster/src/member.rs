//! A process of the cluster.

pub use polity_log::Member;

/// The kinds of processes, as they stand in `members`.
pub mod kind {
    /// Answers clients.
    pub const CLIENT_API: &str = "client-api";
    /// Writes rooms.
    pub const ROOM_STATE: &str = "room-state";
    /// Is all of them.
    pub const POLITY: &str = "polity";
}
