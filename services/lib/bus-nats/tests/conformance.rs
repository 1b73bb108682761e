//! The suite of every bus, on a real NATS server, and what only a connection can do: be lost and come back.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use polity_bus::{Bus, News, suite};
use polity_bus_nats::{NatsBus, NatsConfig};

/// A server of its own, ended with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(port: u16) -> Self {
        let program = std::env::var("POLITY_NATS_SERVER").expect("POLITY_NATS_SERVER is the path of a nats-server");
        let process = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the NATS server starts");
        Self { process, port }
    }

    async fn connect(&self) -> NatsBus {
        let config = NatsConfig {
            urls: vec![format!("nats://127.0.0.1:{}", self.port)],
            prefix: "polity".to_owned(),
            name: "test".to_owned(),
            ..NatsConfig::default()
        };
        for _ in 0..100 {
            match NatsBus::connect(&config).await {
                Ok(bus) => return bus,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("the NATS server doesn't answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_keeps_the_contract() {
    let server = Server::start(free_port());
    suite::all(Arc::new(server.connect().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_hear_each_other() {
    let server = Server::start(free_port());
    let (one, other) = (server.connect().await, server.connect().await);
    let (subjects, mut receiver) = one.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    for n in 0..50 {
        other.publish(suite::subject(1), Bytes::copy_from_slice(&[n]));
    }
    for n in 0..50 {
        let news = tokio::time::timeout(Duration::from_secs(5), receiver.next()).await.unwrap().unwrap();
        let News::Message(message) = news else { panic!("{news:?}") };
        assert_eq!(message.payload[..], [n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_lost_comes_back_and_says_that_news_may_be_missing() {
    let port = free_port();
    let server = Server::start(port);
    let bus = server.connect().await;
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    drop(server);
    bus.publish(suite::subject(1), Bytes::from_static(b"while it was away"));
    let _server = Server::start(port);
    let lost = async { while receiver.next().await != Some(News::Lost) {} };
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("it is told");
    // Subscriptions were made again with the connection.
    let heard = async {
        loop {
            bus.publish(suite::subject(1), Bytes::from_static(b"again"));
            let next = tokio::time::timeout(Duration::from_millis(200), receiver.next()).await;
            if matches!(next, Ok(Some(News::Message(message))) if message.payload == "again") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("news arrives again");
}
