//! The processes of a cluster: who is there, who is dead, and who is asked first.
//!
//! Who is dead is decided in the store, by the registry of `lib/log`; heartbeats on the bus are for routing only, and losing them closes
//! nobody. It refuses to know what the services do. `accounts`, `sync`, the services and `node` may import it.

mod connect;
mod grpc;
mod member;

pub use connect::Connect;
pub use grpc::{CALL_LIMIT, ClusterService, ping};
pub use member::{Member, kind};
