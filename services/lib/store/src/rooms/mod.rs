//! What the store knows of rooms beside their logs: projections, derived from rows, and the nodes of states.

mod directory;
mod events;
mod memberships;
mod nodes;
mod redactions;

pub use directory::{DIRECTORY_SHARDS, list_room, listed_rooms};
pub use events::{EventPlace, place_of_event, put_event};
pub use memberships::{Membership, forget, forgotten, membership, memberships, put_membership};
pub use nodes::{put_state_node, state_node};
pub use redactions::{put_redaction, redactions_between};
