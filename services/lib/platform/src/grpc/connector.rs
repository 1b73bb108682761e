//! Calling other members.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use polity_proto::Transport;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tonic::{ConnectError, transport::Endpoint};
use tower::Service;

use super::identity::{Identity, member_name};

/// Connecting, the handshake included, takes no longer.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a peer that says nothing is asked whether it is there, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));
/// Peers whose connections are kept.
const PEERS: usize = 1024;
/// Bytes that a peer may send ahead on one connection.
const WINDOW: u32 = 4 << 20;

/// Makes ways to other members, one connection to each.
///
/// Of a call that fails, [`polity_proto::never_began`] says whether it may have reached the other side.
#[derive(Debug)]
pub struct Connector {
    identity: Arc<Identity>,
    peers: quick_cache::sync::Cache<String, Transport>,
}

// === impl Connector ===

impl Connector {
    /// Calls others as `identity`.
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, peers: quick_cache::sync::Cache::new(PEERS) }
    }

    /// The way to the member at `address` (`host:port`). It connects at the first call and again whenever the connection is lost; a call
    /// that can't connect fails as unavailable. Within a tokio runtime.
    #[must_use]
    pub fn to(&self, address: &str) -> Transport {
        if let Some(known) = self.peers.get(address) {
            return known;
        }
        let made = polity_proto::remote(self.channel(address));
        self.peers.insert(address.to_owned(), made.clone());
        made
    }

    fn channel(&self, address: &str) -> tonic::transport::Channel {
        let (interval, patience) = KEEPALIVE;
        // The name in the URI is only what stands in requests: which address is meant, the dialler knows.
        Endpoint::from_static("https://polity.internal")
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(patience)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector_lazy(Dial { address: address.into(), identity: Arc::clone(&self.identity) })
    }
}

/// Connects to one address, each time as the identity then is.
#[derive(Clone)]
struct Dial {
    address: Arc<str>,
    identity: Arc<Identity>,
}

type Dialled = Result<TokioIo<TlsStream<TcpStream>>, ConnectError>;

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Dialled> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, identity } = self.clone();
        Box::pin(async move {
            let connected = timeout(CONNECT, connect(&address, &identity)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            connected.map(TokioIo::new).map_err(|error| {
                tracing::debug!(%address, %error, "a member can't be reached");
                ConnectError(format!("{address}: {error}").into())
            })
        })
    }
}

async fn connect(address: &str, identity: &Identity) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    identity.connector().connect(member_name(), stream).await
}
