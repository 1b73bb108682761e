//! The protocol between tiers: the messages (`polity/**/*.proto`), the code generated from them (checked in; a test fails on drift), and
//! the transport, which is the same type whether the other tier is in this process or not.
//!
//! It refuses to decide anything. The services and `node` may import it.

mod descriptors;
mod error;
pub mod route;
pub mod trace;
mod transport;

pub use descriptors::DESCRIPTORS;
pub use error::{Detail, to_status};
pub use error_proto::Reason;
pub use tonic::{Request as Call, Status};
pub use transport::{Transport, answering, local, never_began, remote, timeout, with_deadline};

/// What every process answers the others.
pub mod cluster {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto file has the documentation")]
    include!("generated/polity.cluster.v1.rs");
}

/// Commands on rooms.
pub mod room_state {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto file has the documentation")]
    include!("generated/polity.room_state.v1.rs");
}

/// Details of errors.
pub(crate) mod error_proto {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto file has the documentation")]
    include!("generated/polity.error.v1.rs");
}
