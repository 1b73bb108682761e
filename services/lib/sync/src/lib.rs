//! Reading rooms, the sync engine and its codecs.
//!
//! A sync token is a set of positions; an answer is worked out room by room from the token's entry, the user's membership row and
//! the room's own rows. It has no truth of its own, and any process can answer any token. It refuses to write rooms and to
//! speak HTTP. The client API and `node` may import it.

pub mod engine;
pub mod ephemeral;
pub mod filter;
pub mod follow;
pub mod heads;
pub mod json;
pub mod live;
mod metric;
mod names;
pub mod page_token;
pub mod read;
pub mod v3;

pub use metric::describe_metrics;
pub use names::{sending_device, user_log};
