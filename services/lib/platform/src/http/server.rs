//! The accepting side: bounded connections, and an end that cuts no request.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use polity_core::tasks;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{Acceptor, Tls, connection, layers::metric};
use crate::config::Limits;

/// A connection's buffer at most. hyper starts with 8 KiB and grows only while a client sends much.
const BUFFER: usize = 64 * 1024;
/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 128;
/// How long after the end has begun requests are still taken. What a client sent before it knew may be on its way yet, in the
/// listener's queue or in a connection's: closed at once, it would be cut.
const LINGER: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted (as far as the system allows): when all clients come back at once, those that don't fit
/// try again only a second later.
const BACKLOG: u32 = 4096;
/// What one who comes when all places are taken is told, in full.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n\
    access-control-allow-origin: *\r\nconnection: close\r\ncontent-length: 85\r\n\r\n\
    {\"errcode\":\"M_LIMIT_EXCEEDED\",\"error\":\"too many connections\",\"retry_after_ms\":5000}\r\n";

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} can't be listened on: {error}")]
pub struct BindError {
    /// Which address.
    pub address: SocketAddr,
    /// Why not.
    pub error: io::Error,
}

/// Listens on an address.
///
/// # Errors
/// When it is in use, or isn't one of this machine's.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    reserve(address)?.listen()
}

/// An address that nobody else can listen on. Whoever connects is refused until [`Reserved::listen`].
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    socket: TcpSocket,
}

/// Takes an address without listening on it yet.
///
/// # Errors
/// When it is in use, or isn't one of this machine's.
pub fn reserve(address: SocketAddr) -> Result<Reserved, BindError> {
    let take = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A port that this process's predecessor had may be taken at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Reserved { address: socket.local_addr()?, socket })
    };
    take().map_err(|error| BindError { address, error })
}

impl Reserved {
    /// The address; the port is the one that the system gave.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens.
    ///
    /// # Errors
    /// When somebody else was faster after all.
    pub fn listen(self) -> Result<TcpListener, BindError> {
        let address = self.address;
        self.socket.listen(BACKLOG).map_err(|error| BindError { address, error })
    }
}

/// A listener with what it needs to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    trusted_proxies: Arc<[IpAddr]>,
    streams: u32,
    limits: Limits,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) trusted_proxies: Arc<[IpAddr]>,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) handshake_timeout: Duration,
    /// Take no more requests.
    pub(super) stop: CancellationToken,
    /// The time to finish them is over.
    pub(super) cut: CancellationToken,
}

impl Server {
    /// A server of plain HTTP.
    #[must_use]
    pub fn new(listener: TcpListener, limits: &Limits) -> Self {
        Self { listener, tls: None, trusted_proxies: Arc::default(), streams: STREAMS, limits: limits.clone() }
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<Tls>>) -> Self {
        self.tls = tls.map(|tls| tls.acceptor());
        self
    }

    /// The same for few peers that send many requests at once over one connection each.
    pub(crate) fn for_members(mut self, tls: Arc<Acceptor>, streams: u32) -> Self {
        (self.tls, self.streams) = (Some(tls), streams);
        self
    }

    /// The same, believing these proxies when they say where a request came from.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: &[IpAddr]) -> Self {
        self.trusted_proxies = proxies.into();
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until (a moment after) `stop`. Then idle connections are closed and requests under way may end, for at most `drain`.
    pub async fn serve(self, router: Router, stop: CancellationToken, drain: Duration) {
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let places = Arc::new(Semaphore::new(all as usize));
        let shared = Arc::new(Shared {
            router,
            tls: self.tls,
            trusted_proxies: self.trusted_proxies,
            http1: http1(&self.limits),
            http2: http2(&self.limits, self.streams),
            handshake_timeout: self.limits.handshake_timeout(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        let last_call = async {
            stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
            shared.stop.cancel();
        };
        tokio::join!(accept(self.listener, &shared, &places), last_call);
        // Every place is free again when every connection has ended.
        if tokio::time::timeout(drain, places.acquire_many(all)).await.is_err() {
            tracing::warn!("requests under way are cut: they took longer than the shutdown may");
            shared.cut.cancel();
        }
    }
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout())
        .max_header_size(limits.request_head_bytes.min(BUFFER))
        .max_buf_size(BUFFER);
    // Not pipeline_flush: with it hyper never sends the refusal of a head that is too large.
    builder
}

fn http2(limits: &Limits, streams: u32) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(limits.request_head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER)
        // A peer that is gone is found out; one that is idle but alive may stay.
        .keep_alive_interval(limits.idle_timeout())
        .keep_alive_timeout(limits.handshake_timeout());
    builder
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>, places: &Arc<Semaphore>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match (accepted, Arc::clone(places).try_acquire_owned()) {
            (Ok((stream, peer)), Ok(place)) => start(stream, peer, shared, place),
            (Ok((stream, _)), Err(_)) => refuse(&stream, shared.tls.is_none()),
            (Err(error), _) => {
                // Out of file descriptors, most likely: connections that end make room.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn start(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, place: OwnedSemaphorePermit) {
    let shared = Arc::clone(shared);
    metrics::gauge!(metric::CONNECTIONS).increment(1);
    tasks::spawn(async move {
        connection::run(stream, peer, shared).await;
        metrics::gauge!(metric::CONNECTIONS).decrement(1);
        drop(place);
    });
}

/// Says no at once, without waiting for anything.
fn refuse(stream: &TcpStream, plain: bool) {
    metrics::counter!(metric::REFUSED_CONNECTIONS).increment(1);
    if plain {
        // It fits into the empty buffer of a new socket, or the peer is gone: either is fine.
        let _ = stream.try_write(FULL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
