//! The embedded store: one process, one folder (or memory), nothing beside it.
//!
//! One thread takes whatever waits, checks conditions in order, writes one batch, syncs once and only then lets anybody see or hear of
//! it; what needs no sync may be written by its caller, in turn with the thread. Reads go straight to the engine.
//!
//! It refuses to be shared by two processes.
//! Only `polity-node` (and tests) may import it.

mod acknowledged;
mod disk;
mod engine;
mod expired;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod inspect;
mod keys;
mod memory;
mod metric;
mod queue;
mod record;
mod request;
mod store;
mod turn;
mod writer;

pub use disk::OpenError;
pub use metric::describe_metrics;
pub use store::{LocalStore, Options};
