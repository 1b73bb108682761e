//! One connection, from its first byte to its end.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::future::RouteFuture};
use http::Request;
use hyper::{body::Incoming, service::Service};
use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{ClientAddress, server::Shared};

/// How HTTP/2 begins when both sides know that they speak it. No method of HTTP/1 does.
const HTTP2_PREFACE: &[u8] = b"PRI";

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Serves a connection until it ends.
pub(super) async fn run(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Answers are written whole: waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    // Each step is a box of its own, so that a connection that waits holds the last one only.
    let Some(serving) = Box::pin(begin(stream, peer, Arc::clone(&shared))).await else { return };
    serving.await;
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Handshake and first bytes, within their time.
async fn begin(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Option<Serving> {
    let limit = shared.handshake_timeout;
    let ready = async {
        match shared.tls.as_ref().map(|tls| tls.current()) {
            Some(acceptor) => {
                let stream = acceptor.accept(stream).await?;
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let version = if http2 { Version::Http2 } else { Version::Http1 };
                Ok(serve(Box::new(stream), version, peer, &shared))
            }
            None => {
                let version = sniff(&stream).await?;
                Ok(serve(stream, version, peer, &shared))
            }
        }
    };
    let ready = tokio::select! {
        () = shared.stop.cancelled() => return None,
        ready = timeout(limit, ready) => ready,
    };
    match ready {
        Ok(Ok(serving)) => Some(serving),
        Ok(Err(error)) => {
            let error: io::Error = error;
            tracing::debug!(%error, "a connection didn't begin");
            None
        }
        Err(_) => {
            tracing::debug!("a connection didn't begin in time");
            None
        }
    }
}

/// Looks at the first bytes and leaves them where they are.
async fn sniff(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[..seen] != HTTP2_PREFACE[..seen] {
            return Ok(Version::Http1);
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok(Version::Http2);
        }
        // The socket stays readable, so that only time can tell more.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn serve<I>(io: I, version: Version, peer: SocketAddr, shared: &Arc<Shared>) -> Serving
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = Requests { peer, shared: Arc::clone(shared) };
    let io = TokioIo::new(io);
    match version {
        Version::Http1 => Box::pin(drive(shared.http1.serve_connection(io, service), Arc::clone(shared))),
        Version::Http2 => Box::pin(drive(shared.http2.serve_connection(io, service), Arc::clone(shared))),
    }
}

async fn drive<C>(connection: C, shared: Arc<Shared>)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = shared.stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = shared.cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Hands the requests of a connection to the routes.
struct Requests {
    peer: SocketAddr,
    shared: Arc<Shared>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let address = ClientAddress::of(self.peer, request.headers(), &self.shared.trusted_proxies);
        request.extensions_mut().insert(address);
        // A router is a handle, and always ready.
        let mut router: Router = self.shared.router.clone();
        tower::Service::call(&mut router, request.map(Body::new))
    }
}
