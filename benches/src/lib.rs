//! The load generator: drives any Matrix homeserver by its base URL and reports throughput, latency and what the server's
//! processes spent (CPU, memory, bytes written).
//!
//! It knows nothing of the inside of any server, so that a peer is measured by the same code in the same run. It refuses TLS
//! and base URLs with a path: both would measure something else. Nothing imports this crate but its own binary, `load`.

pub mod cli;
pub mod compare;
pub mod connection;
pub mod error;
pub mod matrix;
pub mod meter;
pub mod procs;
pub mod report;
pub mod scenario;
pub mod target;
