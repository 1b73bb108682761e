//! A deterministic simulation: a whole cluster in one thread, in simulated time, with a store, a bus, a network and clients that
//! misbehave, all of it decided by a seed.
//!
//! Real are room-state, cluster, sync, accounts and the client API, on the store in memory. [`scenario`] says what goes wrong and who
//! takes part; [`process`] holds a process's tasks and can stop or end it between any two of their steps; [`store`], [`bus`], [`net`] and
//! [`way`] stand between the processes and do what [`weather`] says; [`cluster`] starts, kills and stops processes; [`run`] plays a
//! scenario. What clients do and what must hold is [`crate::load`], which the kill tests use, too.
//!
//! A new fault is a variant of [`Fault`], a line in [`Fault::change`](scenario) (or in `Cluster::hit`, if it is done to a node), and one
//! where scenarios are made. A new invariant is a check in [`crate::load`], or in [`settled`].

mod backup;
mod beginning;
mod beside;
mod bus;
mod chance;
mod clock;
mod cluster;
mod ground;
mod instance;
mod kinds;
mod later;
mod logs;
#[cfg(feature = "mutations")]
mod mutations;
mod net;
mod process;
mod purge;
mod requests;
mod restored;
mod run;
mod scenario;
mod settled;
mod shrink;
mod stamped;
mod store;
mod torn;
mod way;
mod weather;

use std::time::Duration;

use polity_core::TenantId;
use tokio::task::JoinHandle;

#[cfg(feature = "mutations")]
pub use mutations::{Caught, catch, scenario};
pub use restored::restored;
pub use run::{Outcome, play};
pub use scenario::{Fault, Planned, Scenario};
pub use shrink::shrink;
pub use weather::Counts;

const TENANT: TenantId = TenantId::new(1);
const SERVER: &str = "polity.test";
/// Another tenant on the same cluster.
const NEIGHBOUR: TenantId = TenantId::new(2);
const NEXT_DOOR: &str = "neighbour.test";

/// Runs something that belongs to no process: the store, the bus, the network, and whoever plays.
fn detached<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "in a task of a process it would belong to that process")]
    tokio::spawn(future)
}

/// So many simulated milliseconds pass.
async fn nap(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
