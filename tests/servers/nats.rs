//! The suite of every bus on a real NATS server, and what only a connection can do: be lost and come back, be refused, be too slow.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use polity_bus::{Bus, News, Receiver, suite};
use polity_bus_nats::{Credentials, NatsBus, NatsConfig, NatsTls};
use polity_tests::servers::{Authority, Nats, NatsOptions};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(server: &Nats) -> NatsConfig {
    NatsConfig {
        urls: vec![server.url()],
        prefix: "polity".to_owned(),
        name: "test".to_owned(),
        ..NatsConfig::default()
    }
}

async fn connect(server: &Nats) -> NatsBus {
    NatsBus::connect(&config(server)).await.expect("a connection")
}

async fn plain() -> Nats {
    Nats::start(NatsOptions::default()).await
}

/// Publishes again and again until the receiver hears it.
pub(crate) async fn until_heard(bus: &dyn Bus, receiver: &mut Box<dyn Receiver>, text: &'static str) {
    let heard = async {
        loop {
            bus.publish(suite::subject(1), Bytes::from_static(text.as_bytes()));
            let next = tokio::time::timeout(Duration::from_millis(200), receiver.next()).await;
            if matches!(next, Ok(Some(News::Message(message))) if message.payload == text) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("news arrives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_keeps_the_contract() {
    let server = plain().await;
    suite::all(Arc::new(connect(&server).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_hear_each_other() {
    let server = plain().await;
    let (one, other) = (connect(&server).await, connect(&server).await);
    let (subjects, mut receiver) = one.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    for n in 0..50 {
        other.publish(suite::subject(1), Bytes::copy_from_slice(&[n]));
    }
    for n in 0..50 {
        let news = tokio::time::timeout(PATIENCE, receiver.next()).await.expect("news").expect("a subscription");
        let News::Message(message) = news else { panic!("{news:?}") };
        assert_eq!(message.payload[..], [n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_late_is_found() {
    let mut server = plain().await;
    server.kill();
    let bus = NatsBus::connect_later(&config(&server)).await.expect("a bus without a server");
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    server.restart().await;
    let lost = async { while receiver.next().await != Some(News::Lost) {} };
    tokio::time::timeout(PATIENCE, lost).await.expect("who listened is told that he heard nothing");
    until_heard(&bus, &mut receiver, "at last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_lost_comes_back_and_says_that_news_may_be_missing() {
    let mut server = plain().await;
    let bus = connect(&server).await;
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    for _ in 0..3 {
        server.kill();
        bus.publish(suite::subject(1), Bytes::from_static(b"while it was away"));
        server.restart().await;
        let lost = async { while receiver.next().await != Some(News::Lost) {} };
        tokio::time::timeout(PATIENCE, lost).await.expect("it is told");
        // Subscriptions were made again with the connection.
        until_heard(&bus, &mut receiver, "again").await;
    }
}

/// A stopped server keeps its connections, and nothing arrives: publishing doesn't wait for it, and afterwards all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_never_waits_for_a_server_that_is_stopped() {
    let server = plain().await;
    let bus = connect(&server).await;
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    server.process().expect("a server that runs").signal("STOP");
    let began = std::time::Instant::now();
    for _ in 0..200_000 {
        bus.publish(suite::subject(2), Bytes::from_static(&[0; 200]));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "publishing took {:?}", began.elapsed());
    server.process().expect("a server that runs").signal("CONT");
    until_heard(&bus, &mut receiver, "again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_a_password_let_in_who_has_them_and_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, strangers) =
        (Authority::new(&folder.path().join("ours")), Authority::new(&folder.path().join("strangers")));
    let user = ("polity".to_owned(), "a secret".to_owned());
    let tls = Some((ours.issue("nats", "nats"), ours.certificate()));
    let mut server = Nats::start(NatsOptions { user: Some(user.clone()), tls, ..NatsOptions::default() }).await;
    let client = |authority: &Authority| {
        let certificate = authority.issue("client", "client");
        Some((certificate.certificate, certificate.key))
    };
    let good = NatsConfig {
        credentials: Credentials::Password(user.0.clone(), user.1.clone()),
        tls: NatsTls { required: true, ca_file: Some(ours.certificate()), client: client(&ours) },
        ..config(&server)
    };
    let with_tls = |tls: NatsTls| NatsConfig { tls, ..good.clone() };
    let refused = [
        (
            "a wrong password",
            NatsConfig { credentials: Credentials::Password(user.0, "wrong".to_owned()), ..good.clone() },
        ),
        ("no password", NatsConfig { credentials: Credentials::None, ..good.clone() }),
        ("no certificate", with_tls(NatsTls { client: None, ..good.tls.clone() })),
        ("another's certificate", with_tls(NatsTls { client: client(&strangers), ..good.tls.clone() })),
        ("a server that isn't known", with_tls(NatsTls { ca_file: Some(strangers.certificate()), ..good.tls.clone() })),
    ];
    for (what, config) in refused {
        let tried = tokio::time::timeout(PATIENCE, NatsBus::connect(&config)).await;
        assert!(tried.is_ok_and(|connected| connected.is_err()), "{what} was let in, or hangs");
    }
    let bus = NatsBus::connect(&good).await.expect("a connection");
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    until_heard(&bus, &mut receiver, "sealed").await;
    server.restart().await;
    until_heard(&bus, &mut receiver, "sealed again").await;

    // Another authority, with other certificates in the same files: both sides read them for the next connection.
    let next = Authority::new(&folder.path().join("ours"));
    for name in ["nats", "client"] {
        let _ = next.issue(name, name);
    }
    server.restart().await;
    until_heard(&bus, &mut receiver, "sealed by others").await;
}

/// The server cuts off a connection for which too much waits; whoever reads it is told, and it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_cut_off_for_being_slow_comes_back() {
    let server = Nats::start(NatsOptions { max_pending_bytes: Some(64 * 1024), ..NatsOptions::default() }).await;
    let (reader, writer) = (connect(&server).await, connect(&server).await);
    let (subjects, mut receiver) = reader.receiver(16);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    let mut lost = 0;
    let began = std::time::Instant::now();
    while lost == 0 && began.elapsed() < PATIENCE {
        for _ in 0..200 {
            writer.publish(suite::subject(1), Bytes::from_static(&[7; 8 * 1024]));
        }
        while let Ok(Some(news)) = tokio::time::timeout(Duration::from_millis(20), receiver.next()).await {
            lost += usize::from(news == News::Lost);
        }
    }
    assert!(lost > 0, "nobody was too slow");
    until_heard(&writer, &mut receiver, "again").await;
}
