//! Ports for servers that tests start.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use rand::RngExt as _;
use tokio::net::TcpSocket;

/// A port that is given to nobody else who asks here, in this process or another, as long as a clone is held: also while the server that
/// it is for isn't there yet, or is started again.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    number: u16,
    /// Bound, and never listening: with `SO_REUSEADDR` on both sides that keeps no server from listening, and lets none of us bind without.
    _held: Arc<[TcpSocket]>,
}

// === impl Port ===

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(formatter)
    }
}

impl Port {
    /// One of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn take() -> Self {
        Self::of(&[Ipv4Addr::LOCALHOST])
    }

    /// One that is free on all of these addresses. Not one of those that the system gives to outgoing connections: they ask nobody.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn of(addresses: &[Ipv4Addr]) -> Self {
        let numbers = (0..1000).map(|_| rand::rng().random_range(12_000..32_000));
        numbers.filter_map(|number| Self::hold(addresses, number).ok()).next().expect("a free port")
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn hold(addresses: &[Ipv4Addr], number: u16) -> io::Result<Self> {
        let held = addresses.iter().map(|address| {
            let socket = TcpSocket::new_v4()?;
            // Refused where anybody is bound, whether they listen or not.
            socket.bind((IpAddr::V4(*address), number).into())?;
            socket.set_reuseaddr(true)?;
            Ok(socket)
        });
        Ok(Self { number, _held: held.collect::<io::Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// What this tries, as soon as it succeeds. A process that another test has just forked has copies of our sockets until it becomes
    /// its program: what we closed stays open for that long.
    fn soon<T, E: fmt::Debug>(what: &str, attempt: impl Fn() -> Result<T, E>) -> T {
        let began = Instant::now();
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{what}: {error:?}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_port_is_nobody_elses_while_it_is_held_and_its_server_may_come_and_go() {
        let port = Port::take();
        let own = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..3 {
            soon("nobody is there", || match TcpStream::connect(own) {
                Ok(answered) => Err(answered),
                Err(_) => Ok(()),
            });
            assert!(Port::hold(&[Ipv4Addr::LOCALHOST], port.number()).is_err(), "it is taken");
            let server = soon("its server may listen", || TcpListener::bind(own));
            let _client = TcpStream::connect(own).expect("the server takes connections");
            let _taken = server.accept().expect("a connection");
            assert!(Port::hold(&[Ipv4Addr::LOCALHOST], port.number()).is_err(), "it is taken");
        }
        drop(port);
        // With `SO_REUSEADDR`, as servers do: the connections above may still be known.
        soon("it is nobody's any more", || TcpListener::bind(own));
    }
}
