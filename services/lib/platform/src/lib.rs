//! What every process needs and no other crate should write again: configuration, logging, metrics, the HTTP server, shutdown.
//!
//! It refuses to know Matrix. The services and `node` may import it.

pub mod config;
pub mod http;
pub mod lifecycle;
pub mod ops;
pub mod telemetry;
