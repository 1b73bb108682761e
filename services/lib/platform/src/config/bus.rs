//! The bus.

use std::path::PathBuf;

use super::{
    Secret,
    settings::{Check, Fault, choice, section},
    storage::certificate,
};

choice! {
    /// Which bus.
    pub enum BusKind {
        /// Within this process.
        Embedded = "embedded",
        /// NATS, shared by all processes of a cluster.
        Nats = "nats",
    }
}

section! {
    /// The bus.
    pub struct Bus {
        /// "embedded" (within this process), or "nats" (shared by all processes of a cluster).
        kind: BusKind = BusKind::Embedded;
        @sections {
            /// NATS.
            nats: Nats;
        }
    }
}

section! {
    /// NATS.
    pub struct Nats {
        /// The servers: "nats://host:port", or "tls://host:port". One is picked, the others stand in when it fails.
        urls: Vec<String> = vec!["nats://127.0.0.1:4222".to_owned()];
        /// The first part of all subjects: clusters that share a NATS take different ones.
        prefix: String = "polity".to_owned();
        /// The user, if the servers ask for one.
        username: String = String::new();
        /// The user's password.
        password: Secret = Secret::default();
        /// A file that holds the password, instead.
        password_file: PathBuf = PathBuf::new();
        /// A token, instead of user and password.
        token: Secret = Secret::default();
        /// A file that holds the token, instead.
        token_file: PathBuf = PathBuf::new();
        /// A .creds file with a JWT and its NKey, instead. It is read for each connection, as certificates are.
        credentials_file: PathBuf = PathBuf::new();
        /// The authority that signed the servers' certificates (PEM). With it TLS is spoken, whatever the urls say.
        tls_ca: PathBuf = PathBuf::new();
        /// This process's certificate (PEM), if the servers ask for one.
        tls_cert: PathBuf = PathBuf::new();
        /// The key of the certificate (PEM).
        tls_key: PathBuf = PathBuf::new();
    }
}

impl Check for Bus {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Check for Nats {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.urls.is_empty() {
            faults.push(("urls", "empty".to_owned()));
        }
        let is_one = |url: &str| {
            let host = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', ' ']))
        };
        for url in self.urls.iter().filter(|url| !is_one(url)) {
            faults.push(("urls", format!("{url:?} is not an address like nats://127.0.0.1:4222")));
        }
        if self.prefix.is_empty() || !self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            faults.push(("prefix", format!("{:?} is not made of letters, digits, - and _", self.prefix)));
        }
        let ways = [!self.username.is_empty(), !self.token.is_empty(), !self.credentials_file.as_os_str().is_empty()];
        if ways.into_iter().filter(|given| *given).count() > 1 {
            faults.push(("username", "one of username, token and credentials_file is enough".to_owned()));
        }
        match (self.username.is_empty(), self.password.is_empty()) {
            (true, false) => faults.push(("username", "missing, while there is a password".to_owned())),
            (false, true) => faults.push(("password", "missing, while there is a username".to_owned())),
            _ => {}
        }
        faults.extend(certificate([&self.tls_ca, &self.tls_cert, &self.tls_key]));
        faults
    }
}
