//! Real servers for tests: Apache Cassandra, NATS, and the proxy in front of a cluster. `tests/servers/install` brings the programs;
//! every server has a folder and ports of its own, and goes with the test, however the test ends.

mod cassandra;
mod certificates;
mod folder;
mod nats;
mod process;
mod programs;
mod proxy;

pub use cassandra::{Cassandra, CassandraOptions};
pub use certificates::{Authority, Certificate};
pub use folder::Folder;
pub use nats::{Nats, NatsOptions};
pub use process::{Process, State};
pub use proxy::{Backend, Proxy};
