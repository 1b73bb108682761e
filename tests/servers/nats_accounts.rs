//! Credentials files, as operators of NATS give them out: a JWT that names the user, signed by his account, whose own is signed by the
//! operator; and the user's key.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use nkeys::KeyPair;
use polity_bus::{Bus, News, suite};
use polity_bus_nats::{ConnectError, Credentials, NatsBus, NatsConfig};
use polity_tests::servers::{Nats, NatsOptions};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A claim about a key, signed.
fn jwt(signer: &KeyPair, about: &KeyPair, claims: &Value) -> String {
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let subject = about.public_key();
    let body =
        json!({"jti": subject, "iat": 1, "iss": signer.public_key(), "name": "test", "sub": subject, "nats": claims});
    let signed = [head, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An operator, and an account of its.
struct Issuer {
    operator: KeyPair,
    account: KeyPair,
    folder: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), folder }
    }

    /// What a server is told of them.
    fn settings(&self) -> String {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
        });
        let account = jwt(&self.operator, &self.account, &json!({"type": "account", "version": 2, "limits": limits}));
        let operator = jwt(&self.operator, &self.operator, &json!({"type": "operator", "version": 2}));
        let name = self.account.public_key();
        format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {name}: {account} }}\n")
    }

    /// A user's file. `key`: another one than the user's, if it is given.
    fn credentials(&self, name: &str, key: Option<&KeyPair>) -> PathBuf {
        let user = KeyPair::new_user();
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
        let jwt = jwt(&self.account, &user, &claims);
        let seed = key.unwrap_or(&user).seed().expect("a seed");
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
        server.restart().await;
    }
}
