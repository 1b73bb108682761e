//! The pure protocol core: build, hash, sign, authorise, redact, state, visibility, push rules; and the records of a room's log.
//!
//! Functions without IO, clock or randomness: whoever calls brings what they need, and gets a decision. It refuses to know a store
//! or a wire. Everybody below `store` may import it; the versions' differences are ruma's data, never `if version >= 12` here.

pub mod auth;
pub mod build;
pub mod live;
pub mod pdu;
pub mod power;
pub mod record;
pub mod redact;
pub mod signed_json;
pub mod state;
