//! The one log engine, for a room's events, a user's record, a device's inbox and a tenant's device-list changes.
//!
//! A log is a dense sequence of rows in buckets, a head, and an epoch. An append is one conditional write to one partition;
//! a fence makes writes of unknown outcome known; everything else that rows touch is a projection, derived from them. The
//! user of a log brings a [`Machine`]: what its commands mean. The engine brings order, durability, de-duplication, recovery.
//!
//! It refuses to know what rows mean. `accounts`, `sync` (for reading), the services and `node` may import it.

mod append;
mod held;
mod invariant;
mod log;
mod logs;
mod machine;
mod members;
mod metric;
mod names;
mod owner;
mod pause;
mod project;
mod prune;
mod purge;
pub mod read;
mod recover;
mod registry;
mod restore;
mod task;
mod tasks;
mod types;

#[cfg(test)]
mod tests;

pub use append::{GROUP_BYTES, GROUP_ROWS};
pub use invariant::check_rows;
pub use logs::{Env, Logs, Moved};
pub use machine::{Decision, Dedup, Machine, RepeatedRow, Sealed};
pub use members::{Listed, Member, MemberState, listed};
pub use metric::describe_metrics;
pub use names::{Named, Names};
pub use owner::{Asked, Claim, Why, Writers};
pub use recover::{Recover, recover, recover_all, recover_until_done};
pub use registry::{Dead, Entered, Left, Registry};
pub use restore::{Restored, restore};
pub use types::{Head, LogError, LogRow, NewRow};
