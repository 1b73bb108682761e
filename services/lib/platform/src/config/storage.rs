//! The store.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Secret,
    settings::{Check, Fault, choice, section},
};

choice! {
    /// Which store.
    pub enum StoreKind {
        /// On disk, in the data folder.
        Embedded = "embedded",
        /// In memory: gone with the process.
        Memory = "memory",
        /// ScyllaDB or Apache Cassandra, shared by all processes of a cluster.
        Cql = "cql",
    }
}

section! {
    /// The store.
    pub struct Store {
        /// "embedded" (on disk, in data_dir), "memory" (gone with the process), or "cql" (ScyllaDB or Apache Cassandra, shared by all
        /// processes of a cluster).
        kind: StoreKind = StoreKind::Embedded;
        @sections {
            /// ScyllaDB or Apache Cassandra.
            cql: Cql;
        }
    }
}

section! {
    /// ScyllaDB or Apache Cassandra.
    pub struct Cql {
        /// Nodes to begin with, "host:port"; the others are learned from them.
        contact_points: Vec<String> = vec!["127.0.0.1:9042".to_owned()];
        /// The keyspace, made at the first start. Lower-case letters, digits and _.
        keyspace: String = "polity".to_owned();
        /// The datacentre whose nodes are asked first.
        local_datacenter: String = "dc1".to_owned();
        /// Copies in each datacentre. It counts when the keyspace is made, and decides then whether writes are agreed on within one
        /// datacentre (one name) or across all (several).
        replication: BTreeMap<String, u32> = BTreeMap::from([("dc1".to_owned(), 3)]);
        /// The user, if the servers ask for one.
        username: String = String::new();
        /// The user's password.
        password: Secret = Secret::default();
        /// A file that holds the password, instead.
        password_file: PathBuf = PathBuf::new();
        /// The authority that signed the servers' certificates (PEM). With it TLS is spoken, else not.
        tls_ca: PathBuf = PathBuf::new();
        /// This process's certificate (PEM), if the servers ask for one.
        tls_cert: PathBuf = PathBuf::new();
        /// The key of the certificate (PEM).
        tls_key: PathBuf = PathBuf::new();
        /// How long an operation may take. Longer than the servers' own time-outs, which answer more exactly.
        timeout_ms: u64 = 5_000;
    }
}

impl Check for Store {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Check for Cql {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = host_and_port("contact_points", &self.contact_points);
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain(&self.keyspace) || !self.keyspace.starts_with(|c: char| c.is_ascii_lowercase()) {
            let keyspace = &self.keyspace;
            faults.push(("keyspace", format!("{keyspace:?} is not made of lower-case letters, digits and _")));
        }
        if self.replication.is_empty() || self.replication.values().any(|copies| *copies == 0) {
            faults.push(("replication", "each datacentre has at least one copy, and there is at least one".to_owned()));
        }
        // A name that isn't there is a keyspace without copies where its processes are.
        if !self.replication.is_empty() && !self.replication.contains_key(&self.local_datacenter) {
            let local = &self.local_datacenter;
            faults.push(("local_datacenter", format!("{local:?} is not one of store.cql.replication")));
        }
        if self.username.is_empty() && !self.password.is_empty() {
            faults.push(("username", "missing, while there is a password".to_owned()));
        }
        faults.extend(certificate([&self.tls_ca, &self.tls_cert, &self.tls_key]));
        if self.timeout_ms < 100 {
            faults.push(("timeout_ms", format!("{} is less than 100", self.timeout_ms)));
        }
        faults
    }
}

/// Whether each is a host and a port, and there is one.
fn host_and_port(key: &'static str, list: &[String]) -> Vec<Fault> {
    if list.is_empty() {
        return vec![(key, "empty".to_owned())];
    }
    let bad = list.iter().filter(|address| !is_host_and_port(address));
    bad.map(|address| (key, format!("{address:?} is not a host and a port, like 127.0.0.1:9042"))).collect()
}

/// Whether a text is a host's name or address, and a port that isn't 0.
pub(super) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_one = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    host_is_one && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A client's certificate has a key, and makes sense only where TLS is spoken.
pub(super) fn certificate([ca, cert, key]: [&PathBuf; 3]) -> Option<Fault> {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    match (given(ca), given(cert), given(key)) {
        (_, true, false) => Some(("tls_key", "missing, while there is a tls_cert".to_owned())),
        (_, false, true) => Some(("tls_cert", "missing, while there is a tls_key".to_owned())),
        (false, true, true) => Some(("tls_ca", "missing, while there is a tls_cert".to_owned())),
        _ => None,
    }
}
