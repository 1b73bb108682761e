//! The store on CQL: ScyllaDB, or Apache Cassandra 5. Only what the two share is said to them.
//!
//! Every operation of [`polity_store::Store`] is one prepared, token-aware statement (or one conditional batch on one partition)
//! as [`polity_store::cql`] writes it; several plain writes share requests, node by node. What a time-out leaves unknown is answered
//! as unknown, never tried again: the log's fence settles it. Reads may be repeated, also speculatively.
//!
//! It refuses to know what tables mean, and to trust a process's own idea of consistency: that is a property of the cluster,
//! written at its creation. Only `node` imports it.

mod agreed;
mod config;
mod connect;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keyspace;
mod metric;
mod page;
mod row;
mod schema;
mod statements;
mod status;
mod store;
mod together;
mod value;

pub use config::{Consistencies, CqlConfig};
pub use connect::{CqlStore, OpenError};
pub use keyspace::Refused;
pub use metric::describe_metrics;
pub use schema::Schema;
pub use status::SchemaStatus;
