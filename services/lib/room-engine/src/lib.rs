//! The pure protocol core: build, hash, sign, authorise, redact, state, visibility, push rules.

pub mod live;
pub mod record;
