//! What every process needs and no other crate should write again: configuration, log, traces and metrics, the HTTP server with
//! its layers, rate limits, shutdown.
//!
//! It refuses to know Matrix beyond the shape of an error and the headers that browsers need. The services and `node` may import it.

pub mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod grpc;
pub mod http;
pub mod lifecycle;
pub mod ops;
pub mod rate_limit;
pub mod telemetry;
pub mod tls;
