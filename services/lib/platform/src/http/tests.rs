//! The server over real sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, put},
};
use http::{Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Limits;

mod memory;

/// A server that runs.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    /// Lets `/wait` answer.
    gate: Arc<Notify>,
    /// Told when a request waits.
    waiting: Arc<Notify>,
    ended: JoinHandle<()>,
}

async fn start(limits: Limits, tls: Option<Arc<Tls>>, drain: Duration) -> Running {
    let (gate, waiting, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
    let (gate_, waiting_) = (Arc::clone(&gate), Arc::clone(&waiting));
    let routes = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/body", put(async |body: Bytes| body.len().to_string()))
        .route(
            "/wait",
            get(async move || {
                let opened = gate_.notified();
                waiting_.notify_one();
                opened.await;
                "done"
            }),
        );
    let router = Layers::new(&limits).around(routes);
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = Server::new(listener, &limits).with_tls(tls);
    let address = server.local_addr().unwrap();
    let ended = polity_core::tasks::spawn(server.serve(router, stop.clone(), drain));
    Running { address, stop, gate, waiting, ended }
}

async fn plain() -> Running {
    start(Limits::default(), None, Duration::from_secs(10)).await
}

#[tokio::test]
async fn clients_that_come_all_at_once_find_a_place_in_the_queue() {
    let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = longest.trim().parse::<usize>().unwrap().min(400) / 2;
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts yet. One who found the queue full would try again after a second, and wait on.
    let all = futures_util::future::join_all((0..clients).map(|_| TcpStream::connect(address)));
    let connected = tokio::time::timeout(Duration::from_secs(20), all).await.expect("none waits for a place");
    let mut connected: Vec<TcpStream> = connected.into_iter().collect::<Result<_, _>>().unwrap();
    for client in &mut connected {
        client.write_all(b"x").await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        accepted.read_exact(&mut byte).await.unwrap();
    }
}

/// Sends text, reads until the server closes or nothing comes for a second.
async fn talk(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut part)).await {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&part[..n]);
    }
    String::from_utf8(all).unwrap()
}

/// Whether the server closes within the time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_closes_what_is_idle() {
    let server = plain().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert!(talk(&mut idle, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ends_with("hello"));
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    server.waiting.notified().await;
    server.stop.cancel();
    assert!(closes(&mut idle, Duration::from_secs(2)).await, "an idle connection is closed");
    assert!(closes(&mut silent, Duration::from_secs(2)).await, "a silent connection is closed");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    assert!(!server.ended.is_finished(), "the request under way is waited for");
    server.gate.notify_waiters();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    tokio::time::timeout(Duration::from_secs(2), server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let server = start(Limits::default(), None, Duration::from_millis(200)).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    server.waiting.notified().await;
    server.stop.cancel();
    assert!(closes(&mut busy, Duration::from_secs(2)).await);
    tokio::time::timeout(Duration::from_secs(2), server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn large_and_slow_requests_are_refused() {
    let limits = Limits { request_body_bytes: 65_536, body_timeout_s: 1, idle_timeout_s: 2, ..Limits::default() };
    let server = start(limits, None, Duration::from_secs(1)).await;
    let connect = async || TcpStream::connect(server.address).await.unwrap();
    let answer = talk(&mut connect().await, "PUT /body HTTP/1.1\r\nhost: a\r\ncontent-length: 65537\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{answer}");
    let chunks = format!("{:x}\r\n{}\r\n", 40_000, "a".repeat(40_000)).repeat(2);
    let head = "PUT /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = talk(&mut connect().await, &format!("{head}{chunks}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("M_TOO_LARGE"), "{answer}");
    let mut slow = connect().await;
    slow.write_all(b"PUT /body HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(3), slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let answer = talk(&mut connect().await, "PUT /body HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('3'), "{answer}");
    let mut half = connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    assert!(closes(&mut half, Duration::from_secs(4)).await, "a head that doesn't end is given up");
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(50_000));
    let answer = talk(&mut connect().await, &huge).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn silence_is_given_up_and_a_crowd_is_refused() {
    let limits = Limits { connections: 1, handshake_timeout_s: 1, ..Limits::default() };
    let server = start(limits, None, Duration::from_secs(1)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("M_LIMIT_EXCEEDED"), "{answer}");
    assert!(closes(&mut silent, Duration::from_secs(3)).await);
    let mut next = TcpStream::connect(server.address).await.unwrap();
    assert!(talk(&mut next, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.ends_with("hello"));
}

#[tokio::test]
async fn both_versions_are_spoken_without_tls() {
    let server = plain().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driving = polity_core::tasks::spawn(connection);
    let request = Request::get(format!("http://{}/", server.address)).body(Body::empty()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(2), driving).await.unwrap().unwrap().unwrap();
    // The first byte of HTTP/1 may be the first of HTTP/2 too.
    let server = plain().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"P").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let rest = "UT /body HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab";
    assert!(talk(&mut stream, rest).await.ends_with('2'));
}

/// A certificate for localhost, in files.
fn certificate() -> (tempfile::TempDir, Arc<Tls>, CertificateDer<'static>) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Tls::load(&cert, &key).unwrap();
    (folder, tls, CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap())
}

async fn tls_stream(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn tls_speaks_both_versions_with_a_post_quantum_key_exchange_and_drains() {
    let (_folder, tls, trusted) = certificate();
    let server = start(Limits::default(), Some(tls), Duration::from_secs(10)).await;
    let stream = tls_stream(server.address, &trusted, b"h2").await;
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driving = polity_core::tasks::spawn(connection);
    let response = client.send_request(Request::get("https://localhost/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    let stream = tls_stream(server.address, &trusted, b"http/1.1").await;
    let (mut client1, connection1) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving1 = polity_core::tasks::spawn(connection1);
    let request = Request::get("/wait").header("host", "localhost").body(Body::empty()).unwrap();
    let asked = polity_core::tasks::spawn(async move { client1.send_request(request).await.unwrap() });
    server.waiting.notified().await;
    server.stop.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(2), driving).await.unwrap();
    server.gate.notify_waiters();
    let response = asked.await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    driving1.await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(2), server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn certificates_are_read_again_and_bad_ones_change_nothing() {
    let (folder, tls, _) = certificate();
    tls.reload().unwrap();
    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::File { .. })));
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("key.pem"), other.signing_key.serialize_pem()).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
    assert!(Tls::load(&folder.path().join("none.pem"), &folder.path().join("key.pem")).is_err());
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let server = plain().await;
    let error = bind(server.address).unwrap_err();
    assert_eq!(error.error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&server.address.to_string()));
}
