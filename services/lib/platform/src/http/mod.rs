//! The HTTP server (HTTP/1.1 and HTTP/2, plain or over TLS) and the layers around its routes.
//!
//! What counts is the memory of a connection that waits: the task of a connection holds one boxed future of the protocol that
//! it speaks, a handshake is boxed and gone when it is done, and a connection that never said anything has no buffer.

mod address;
mod connection;
mod layers;
mod server;
mod tls;

pub use crate::tls::TlsError;
pub use address::ClientAddress;
pub use layers::{Errcode, Layers, Parked, Scope, describe_metrics};
pub use server::{BindError, Reserved, Server, bind, reserve};
pub(crate) use tls::Acceptor;
pub use tls::Tls;

#[cfg(test)]
mod tests;
