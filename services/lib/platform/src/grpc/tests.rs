//! Members that call each other over real sockets, with certificates made for the test.

use std::{convert::Infallible, fs, net::SocketAddr, pin::Pin, sync::Arc, task, time::Duration};

use ::http::{Request, Response};
use polity_core::{ErrorKind, tasks};
use polity_proto::{
    Transport,
    cluster::{PingRequest, cluster_client::ClusterClient},
    room_state::{KickUserRequest, SendEventRequest, room_state_client::RoomStateClient},
    with_deadline,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose as Use, IsCa, KeyPair};
use rustls::NamedGroup;
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, server::NamedService};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tower::Service;

use super::{identity::member_name, *};
use crate::{config::Limits, http::bind, ops::Ready, tls::TlsError};

mod rotation;

const ANY: &str = "127.0.0.1:0";

/// An authority that signs members.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a new certificate for `name`, believing these authorities, into a folder.
    fn sign(&self, folder: &TempDir, name: &str, believed: &[&Self]) -> IdentityFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
        let cert = params.signed_by(&key, &self.0).unwrap();
        let write = |file: &str, text: String| {
            let path = folder.path().join(file);
            fs::write(&path, text).unwrap();
            path
        };
        IdentityFiles {
            ca: write("ca.pem", believed.iter().map(|authority| authority.0.pem()).collect()),
            cert: write("cert.pem", cert.pem()),
            key: write("key.pem", key.serialize_pem()),
        }
    }
}

/// A member's identity in a folder of its own.
fn member(authority: &Authority) -> (TempDir, Arc<Identity>) {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::load(authority.sign(&folder, MEMBER_NAME, &[authority])).unwrap();
    (folder, identity)
}

/// Refuses every call; one kind only when it is let.
#[derive(Clone, Default)]
struct Rooms {
    gate: Arc<Notify>,
    waiting: Arc<Notify>,
}

impl NamedService for Rooms {
    const NAME: &'static str = "polity.room_state.v1.RoomState";
}

impl Service<Request<Body>> for Rooms {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { gate, waiting } = self.clone();
        Box::pin(async move {
            if request.uri().path().ends_with("/KickUser") {
                let opened = gate.notified();
                waiting.notify_one();
                opened.await;
            }
            Ok(Status::not_found("seen").into_http())
        })
    }
}

/// Refuses every call at once.
#[derive(Clone)]
struct Cluster;

impl NamedService for Cluster {
    const NAME: &'static str = "polity.cluster.v1.Cluster";
}

impl Service<Request<Body>> for Cluster {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Status::not_found("seen").into_http()))
    }
}

/// A server that runs.
struct Running {
    address: SocketAddr,
    rooms: Rooms,
    ready: Ready,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

fn serve(identity: &Identity, address: &str, limits: &Limits) -> Running {
    let (rooms, ready, stop) = (Rooms::default(), Ready::default(), CancellationToken::new());
    let listener = bind(address.parse().unwrap()).unwrap();
    let server = Server::new(listener, identity, limits);
    let address = server.local_addr().unwrap();
    let ended = tasks::spawn(server.serve(
        Services::default().with(rooms.clone()).with_always(Cluster),
        ready.clone(),
        stop.clone(),
        Duration::from_secs(10),
    ));
    Running { address, rooms, ready, stop, ended }
}

/// What a call comes to that a server that can be reached answers with `NotFound`.
async fn send(way: &Transport) -> Status {
    let call = with_deadline(SendEventRequest::default(), Duration::from_secs(5));
    RoomStateClient::new(way.clone()).send_event(call).await.unwrap_err()
}

/// A call that waits for the gate.
fn kick(way: &Transport, limit: Duration) -> JoinHandle<Status> {
    let mut client = RoomStateClient::new(way.clone());
    let call = with_deadline(KickUserRequest::default(), limit);
    tasks::spawn(async move { client.kick_user(call).await.unwrap_err() })
}

#[tokio::test]
async fn members_call_each_other_with_a_post_quantum_key_exchange() {
    let authority = Authority::new();
    let ((_one, one), (_other, other)) = (member(&authority), member(&authority));
    let server = serve(&one, ANY, &Limits::default());
    let connector = Connector::new(Arc::clone(&other));
    let way = connector.to(&server.address.to_string());
    assert_eq!(send(&way).await.code(), Code::NotFound);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let stream = other.connector().connect(member_name(), stream).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn who_is_no_member_is_refused_by_both_sides() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let ((_one, one), (_stranger, stranger)) = (member(&authority), member(&foreign));
    // Believes this cluster's authority, but has a certificate of another one.
    let folder = tempfile::tempdir().unwrap();
    let files = foreign.sign(&folder, MEMBER_NAME, &[&authority, &foreign]);
    let half = Identity::load(files.clone()).unwrap();
    // And one that has none at all.
    let nobody = tokio_rustls::TlsConnector::from(crate::tls::client(&files.ca, None).unwrap());

    let server = serve(&one, ANY, &Limits::default());
    for identity in [stranger, half] {
        let refused = send(&Connector::new(identity).to(&server.address.to_string())).await;
        assert_ne!(refused.code(), Code::NotFound, "{refused:?}");
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    // With TLS 1.3 the client's side is done before the server has looked at its certificate.
    let mut stream = nobody.connect(member_name(), stream).await.unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
    assert!(read.is_err_and(|error| error.to_string().contains("CertificateRequired")));
    let rooms = tokio::time::timeout(Duration::from_millis(1), server.rooms.waiting.notified()).await;
    assert!(rooms.is_err());
}

#[test]
fn an_identity_that_others_would_refuse_is_refused_at_the_start() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    for files in
        [authority.sign(&folder, "somebody.else", &[&authority]), foreign.sign(&folder, MEMBER_NAME, &[&authority])]
    {
        let refused = Identity::load(files).unwrap_err();
        assert!(matches!(refused, TlsError::Refused { .. }), "{refused}");
    }
    let files = authority.sign(&folder, MEMBER_NAME, &[&authority]);
    assert!(Identity::load(files.clone()).is_ok());
    fs::remove_file(&files.ca).unwrap();
    assert!(matches!(Identity::load(files), Err(TlsError::File { .. })));
}

#[tokio::test]
async fn calls_end_in_time_and_too_many_are_refused() {
    let authority = Authority::new();
    let (_folder, identity) = member(&authority);
    let server = serve(&identity, ANY, &Limits { requests: 1, ..Limits::default() });
    let way = Connector::new(identity).to(&server.address.to_string());
    let late = kick(&way, Duration::from_millis(50)).await.unwrap();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    server.rooms.waiting.notified().await;

    let held = kick(&way, Duration::from_secs(10));
    server.rooms.waiting.notified().await;
    let refused = send(&way).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(polity_proto::Detail::from(&refused).retry_after.is_some());
    let ping = with_deadline(PingRequest {}, Duration::from_secs(5));
    let always = ClusterClient::new(way.clone()).ping(ping).await.unwrap_err();
    assert_eq!(always.code(), Code::NotFound, "it was asked");
    server.rooms.gate.notify_waiters();
    assert_eq!(held.await.unwrap().code(), Code::NotFound);
    assert_eq!(send(&way).await.code(), Code::NotFound);
}

#[tokio::test]
async fn a_call_that_cannot_begin_says_so_and_the_next_one_connects_again() {
    let authority = Authority::new();
    let (_folder, identity) = member(&authority);
    let server = serve(&identity, ANY, &Limits::default());
    let address = server.address.to_string();
    let way = Connector::new(Arc::clone(&identity)).to(&address);
    let held = kick(&way, Duration::from_secs(10));
    server.rooms.waiting.notified().await;
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // What is under way ends well, what is new doesn't begin.
    let refused = send(&way).await;
    assert!(polity_proto::never_began(&refused), "{refused:?}");
    assert_eq!(polity_proto::Detail::from(&refused).kind, ErrorKind::Unavailable);
    assert!(polity_proto::never_began(&send(&way).await));
    server.rooms.gate.notify_waiters();
    assert_eq!(held.await.unwrap().code(), Code::NotFound);
    server.ended.await.unwrap();
    let refused = send(&way).await;
    assert!(refused.code() == Code::Unavailable && polity_proto::never_began(&refused), "{refused:?}");

    let _server = serve(&identity, &address, &Limits::default());
    assert_eq!(send(&way).await.code(), Code::NotFound);
}

#[tokio::test]
async fn health_follows_the_process_and_reflection_names_what_is_served() {
    let authority = Authority::new();
    let (_folder, identity) = member(&authority);
    let server = serve(&identity, ANY, &Limits::default());
    let way = Connector::new(identity).to(&server.address.to_string());
    let health = async |service: &str| {
        let asked = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(way.clone()).check(asked).await.unwrap().into_inner().status()
    };
    let store = server.ready.component("store");
    server.ready.set(true);
    assert_eq!(health(Rooms::NAME).await, ServingStatus::NotServing);
    store.set(true);
    let mut tries = 0;
    while health("").await != ServingStatus::Serving {
        tries += 1;
        assert!(tries < 500, "the health follows");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(health(Rooms::NAME).await, ServingStatus::Serving);

    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = futures_util::stream::iter([asked]);
    let mut told = ServerReflectionClient::new(way).server_reflection_info(asked).await.unwrap().into_inner();
    let told = told.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = told else { panic!("{told:?}") };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(
        names.contains(&Rooms::NAME.to_owned()) && names.contains(&"grpc.health.v1.Health".to_owned()),
        "{names:?}"
    );
}
