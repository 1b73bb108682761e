//! The processes of a cluster: who is there, who is dead, and who is asked first.
//!
//! Who is dead is decided in the store, by the registry of `lib/log`; heartbeats on the bus are for routing only, and losing them closes
//! nobody. It refuses to know what the services do. `accounts`, `sync`, the services and `node` may import it.

mod beats;
mod connect;
pub mod digest;
mod envelope;
mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod heartbeat;
mod judge;
mod live;
mod member;
mod metric;
mod peers;
mod presence;
mod rank;
mod routed;
mod watch;

#[cfg(test)]
mod tests;

pub use beats::alive;
pub use connect::Connect;
pub use forward::Forward;
pub use grpc::{CALL_LIMIT, ClusterService, ping};
pub use live::Live;
pub use member::{Member, kind};
pub use metric::describe_metrics;
pub use peers::Peers;
pub use presence::Presence;
pub use routed::Routed;
pub use watch::Watch;
