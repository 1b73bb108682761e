//! What the store knows of rooms beside their logs: projections, derived from rows, and the nodes of states.

mod aliases;
mod directory;
mod events;
mod memberships;
mod nodes;
mod redactions;

pub use aliases::{Alias, AliasUse, alias, aliases_of, claim_alias, release_alias, settle_alias};
pub use directory::{DIRECTORY_SHARDS, listed_rooms, put_listing};
pub use events::{EventPlace, place_of_event, put_event};
pub use memberships::{Membership, forget, forget_cleared, forgotten, membership, memberships, put_membership};
pub use nodes::{drop_state_node, put_state_node, state_node, state_node_if_there};
pub use redactions::{Redacted, drop_redactions, put_redaction, redactions_between};
