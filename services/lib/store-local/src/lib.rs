//! The embedded store: one process, one folder (or memory), nothing beside it.
//!
//! All writes go through one thread that takes whatever waits, checks conditions in order, writes one batch, syncs once
//! and only then lets anybody see or hear of it. Reads go straight to the engine. It refuses to be shared by two processes.
//! Only `polity-node` (and tests) may import it.

mod acknowledged;
mod disk;
mod engine;
mod expired;
mod inspect;
mod keys;
mod memory;
mod metric;
mod record;
mod store;
mod writer;

pub use disk::OpenError;
pub use metric::describe_metrics;
pub use store::{LocalStore, Options};
