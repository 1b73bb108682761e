//! gRPC between the processes of a cluster, over mutual TLS: [`Server`] answers, [`Connector`] calls.
//!
//! Whoever has a certificate of the internal authority for [`MEMBER_NAME`] is a member of the cluster, wherever it runs: addresses come and
//! go, so that certificates don't name them. The authority must sign nothing else.

mod connector;
mod identity;
mod server;
mod services;

pub use connector::Connector;
pub use identity::{Identity, IdentityFiles, MEMBER_NAME};
pub use server::Server;
pub use services::Services;

#[cfg(test)]
mod tests;
