//! The sync engine and its codecs.

pub mod engine;
pub mod ephemeral;
pub mod filter;
pub mod heads;
pub mod live;
pub mod v3;
