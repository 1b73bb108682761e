//! `health`: what a container asks the process in it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use polity_platform::config::Config;

use crate::{command::say, failure::Failure};

/// What a container takes for unhealthy.
const NOT_READY: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(2);
/// The answer is a line or two.
const LARGEST: u64 = 16 * 1024;

/// Asks the process that serves with this configuration whether it is ready.
pub(crate) fn ask(config: &Config) -> Result<(), Failure> {
    let address = reachable(config.listeners.ops.bind);
    let answer = get(address).map_err(|error| Failure::new(NOT_READY, format!("{address}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        say(body.trim_end());
        return Ok(());
    }
    Err(Failure::new(NOT_READY, body.trim_end()))
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LARGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who listens everywhere is found here.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let host = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(host, bind.port())
}
