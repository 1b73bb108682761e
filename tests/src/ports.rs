//! Ports for servers that tests start.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use rand::RngExt as _;

/// A port of 127.0.0.1 that nobody listens on. Not one of those that the system gives to outgoing connections: it must be free at a
/// restart too.
///
/// # Panics
/// When there is none.
#[must_use]
pub(crate) fn free_port() -> u16 {
    free_port_of(&[Ipv4Addr::LOCALHOST])
}

/// A port that is free on all of these addresses.
pub(crate) fn free_port_of(addresses: &[Ipv4Addr]) -> u16 {
    let free = |port: &u16| addresses.iter().all(|address| TcpListener::bind((IpAddr::V4(*address), *port)).is_ok());
    let mut ports = (0..1000).map(|_| rand::rng().random_range(12_000..32_000));
    ports.find(free).expect("a free port")
}
