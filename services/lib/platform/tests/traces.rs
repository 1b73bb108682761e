//! A request's span reaches a collector, in the trace that the client named, and so does what another process does for it. (One
//! process has one subscriber: a test of its own.)
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    task,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use polity_platform::{
    config::{Limits, Log, Telemetry},
    grpc::{self, Connector, Identity, IdentityFiles, MEMBER_NAME, Services},
    http::{Layers, Server, bind},
    ops, telemetry,
};
use polity_proto::{
    Status, Transport,
    cluster::{PingRequest, cluster_client::ClusterClient},
    with_deadline,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tower::ServiceExt as _;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

type Received = Arc<Mutex<Vec<u8>>>;

/// Keeps what is exported and answers as a collector does: an empty message, and that all is well.
async fn export(State(received): State<Received>, body: Bytes) -> Response {
    received.lock().await.extend_from_slice(&body);
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// Answers what trace a call said it belongs to.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "polity.cluster.v1.Cluster";
}

impl tower::Service<Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let trace = request.headers().get("traceparent").map(|trace| trace.to_str().unwrap()).unwrap_or_default();
        ready(Ok(Status::not_found(trace).into_http()))
    }
}

/// The way to a process that answers so, over mutual TLS, and what stops it.
fn other_process(folder: &Path) -> (Transport, CancellationToken) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let member = CertificateParams::new([MEMBER_NAME.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let (ca, cert) = (write("ca.pem", authority.pem()), write("cert.pem", member.pem()));
    let identity = Identity::load(IdentityFiles { ca, cert, key: write("key.pem", key.serialize_pem()) }).unwrap();
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = grpc::Server::new(listener, &identity, &Limits::default());
    let (address, stop) = (server.local_addr().unwrap().to_string(), CancellationToken::new());
    let services = Services::default().with(Echo);
    polity_core::tasks::spawn(server.serve(services, ops::Ready::default(), stop.clone(), Duration::from_secs(1)));
    (Connector::new(identity).to(&address), stop)
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_reaches_the_collector_in_the_trace_of_its_client() {
    let received = Received::default();
    let collector = Router::new().route(EXPORT, post(export)).with_state(Arc::clone(&received));
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = Server::new(listener, &Limits::default());
    let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
    polity_core::tasks::spawn(server.serve(collector, stop.clone(), Duration::from_secs(1)));

    let log = Log { level: "off".to_owned(), ..Log::default() };
    let running = telemetry::start(&log, &Telemetry { otlp_endpoint: format!("http://{address}") }, "node-a").unwrap();
    assert!(telemetry::traces_enabled());
    let folder = tempfile::tempdir().unwrap();
    let (way, other) = other_process(folder.path());
    let handler = async move || {
        let call = with_deadline(PingRequest {}, Duration::from_secs(5));
        ClusterClient::new(way).ping(call).await.unwrap_err().message().to_owned()
    };
    let router = Layers::new(&Limits::default()).around(Router::new().route("/rooms/{room}", get(handler)));
    let request = Request::get("/rooms/private").header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let onward = response.into_body().collect().await.unwrap().to_bytes();
    let onward = std::str::from_utf8(&onward).unwrap();
    assert!(onward.contains(TRACE) && !onward.contains("00f067aa0ba902b7"), "the call onward is of the span: {onward}");
    tokio::task::spawn_blocking(move || drop(running)).await.unwrap();

    let received = received.lock().await;
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(contains(&received, &id), "the trace's id is in {} bytes", received.len());
    assert!(contains(&received, b"GET /rooms/{room}") && contains(&received, b"node-a"));
    assert!(!contains(&received, b"private"));
    // Both sides of the call are spans.
    for side in ["call", "answer"] {
        assert!(contains(&received, format!("{side} polity.cluster.v1.Cluster/Ping").as_bytes()), "{side}");
    }
    other.cancel();
    stop.cancel();
}
