//! The bus on NATS core: a subject for each room, user and device, interest only where somebody listens.
//!
//! NATS may lose, and a lost message costs its receiver a read of the store: a receiver that was slow, or whose connection was
//! gone for a while, gets [`polity_bus::News::Lost`]. It refuses to store anything (no JetStream) and to make anybody
//! wait: publishing goes through a bounded queue, and what doesn't fit is lost and counted. Only `node` imports it.

mod config;
mod connection;
mod credentials;
mod metric;
mod publisher;
mod receiver;
mod subject;

pub use config::{Credentials, NatsConfig, NatsTls};
pub use connection::{ConnectError, NatsBus};
pub use metric::describe_metrics;
