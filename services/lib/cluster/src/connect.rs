//! The ways to other processes.

use polity_proto::Transport;

/// Knows the way to a process by its address. Making a way waits for nothing: it is connected when it is used.
pub trait Connect: Send + Sync + 'static {
    /// The way to the process that answers at `address` ("host:port").
    fn to(&self, address: &str) -> Transport;
}

impl<F: Fn(&str) -> Transport + Send + Sync + 'static> Connect for F {
    fn to(&self, address: &str) -> Transport {
        self(address)
    }
}
