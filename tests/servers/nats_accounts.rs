//! Credentials files, as operators of NATS give them out: a JWT that names the user, signed by his account, whose own is signed by the
//! operator; and the user's key.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use polity_bus::{Bus, News, Receiver, suite};
use polity_bus_nats::{ConnectError, Credentials, NatsBus, NatsConfig};
use polity_tests::servers::{Nats, NatsOptions};
use serde_json::{Value, json};

use crate::nats::until_heard;

const PATIENCE: Duration = Duration::from_secs(20);

/// A claim about a key, signed.
fn jwt(signer: &KeyPair, about: &KeyPair, until: Option<u64>, claims: &Value) -> String {
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let subject = about.public_key();
    let mut body =
        json!({"jti": subject, "iat": 1, "iss": signer.public_key(), "name": "test", "sub": subject, "nats": claims});
    until.into_iter().for_each(|until| body["exp"] = until.into());
    let signed = [head, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An operator, and an account of its.
struct Issuer {
    operator: KeyPair,
    account: KeyPair,
    /// Whose credentials hold no longer.
    revoked: BTreeMap<String, u64>,
    folder: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), revoked: BTreeMap::new(), folder }
    }

    /// What a server is told of them.
    fn settings(&self) -> String {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
        });
        let claims = json!({"type": "account", "version": 2, "limits": limits, "revocations": self.revoked});
        let account = jwt(&self.operator, &self.account, None, &claims);
        let operator = jwt(&self.operator, &self.operator, None, &json!({"type": "operator", "version": 2}));
        let name = self.account.public_key();
        format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {name}: {account} }}\n")
    }

    /// A user's file. `key`: another one than the user's, if it is given.
    fn credentials(&self, name: &str, key: Option<&KeyPair>) -> PathBuf {
        self.issue(name, &KeyPair::new_user(), key, None)
    }

    /// The same for this user, and until a time.
    fn issue(&self, name: &str, user: &KeyPair, key: Option<&KeyPair>, until: Option<u64>) -> PathBuf {
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
        let jwt = jwt(&self.account, user, until, &claims);
        let seed = key.unwrap_or(user).seed().expect("a seed");
        let path = self.folder.path().join(name);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).expect("a file");
        path
    }
}

fn config(server: &Nats, file: PathBuf) -> NatsConfig {
    NatsConfig {
        urls: vec![server.url()],
        prefix: "polity".to_owned(),
        name: "test".to_owned(),
        credentials: Credentials::File(file),
        ..NatsConfig::default()
    }
}

async fn refused(config: NatsConfig) -> ConnectError {
    let tried = tokio::time::timeout(PATIENCE, NatsBus::connect(&config)).await.expect("an answer");
    tried.err().expect("it is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_lets_in_and_others_are_refused_with_a_reason() {
    let (ours, strangers) = (Issuer::new(), Issuer::new());
    let mut server = Nats::start(NatsOptions { more: ours.settings(), ..NatsOptions::default() }).await;
    let good = ours.credentials("polity.creds", None);
    for (what, wrong) in [
        ("another account's", config(&server, strangers.credentials("theirs.creds", None))),
        ("another one's key", config(&server, ours.credentials("stolen.creds", Some(&KeyPair::new_user())))),
        ("none", NatsConfig { credentials: Credentials::None, ..config(&server, good.clone()) }),
    ] {
        let error = refused(wrong).await;
        assert!(matches!(error, ConnectError::Refused(_)), "{what}: {error}");
        assert!(error.to_string().contains("bus.nats"), "{what}: it isn't told what to mend: {error}");
    }
    for (name, text) in [("missing.creds", None), ("empty.creds", Some("")), ("odd.creds", Some("no credentials"))] {
        let path = ours.folder.path().join(name);
        text.into_iter().for_each(|text| std::fs::write(&path, text).expect("a file"));
        let error = refused(config(&server, path)).await;
        assert!(matches!(error, ConnectError::Credentials { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "it isn't told which file: {error}");
    }
    let bus = NatsBus::connect(&config(&server, good)).await.expect("a connection");
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    for text in ["first", "after a restart"] {
        until_heard(&bus, &mut receiver, text).await;
        server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_were_replaced_count_from_the_next_connection_on() {
    let mut ours = Issuer::new();
    let mut server = Nats::start(NatsOptions { more: ours.settings(), ..NatsOptions::default() }).await;
    let now_s = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let file = ours.issue("polity.creds", &KeyPair::new_user(), None, Some(now_s + 4));
    let bus = NatsBus::connect(&config(&server, file.clone())).await.expect("a connection");
    let (subjects, mut receiver) = bus.receiver(64);
    subjects.subscribe(suite::subject(1));
    subjects.settled().await;
    until_heard(&bus, &mut receiver, "for some seconds").await;

    // They run out, and the server cuts the connection off.
    let second = KeyPair::new_user();
    ours.issue("polity.creds", &second, None, None);
    let cut_off = async { while receiver.next().await != Some(News::Lost) {} };
    tokio::time::timeout(PATIENCE, cut_off).await.expect("the connection is cut off, and made again");
    until_heard(&bus, &mut receiver, "with others").await;

    // They are taken back: this process stays outside until it has others, whatever becomes of the file meanwhile.
    ours.revoked.insert(second.public_key(), now_s);
    server.set_more(ours.settings());
    server.restart().await;
    for text in [None, Some(""), Some("no credentials")] {
        assert!(!heard(&bus, &mut receiver, "from outside").await, "who was revoked is let in");
        std::fs::remove_file(&file).ok();
        text.into_iter().for_each(|text| std::fs::write(&file, text).expect("a file"));
    }
    ours.credentials("polity.creds", None);
    until_heard(&bus, &mut receiver, "with new ones").await;
}

/// Whether what is published arrives within a second.
async fn heard(bus: &NatsBus, receiver: &mut Box<dyn Receiver>, text: &'static str) -> bool {
    tokio::time::timeout(Duration::from_secs(1), until_heard(bus, receiver, text)).await.is_ok()
}
