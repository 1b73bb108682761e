//! Where this process listens.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::{
    settings::{Check, Fault, section},
    storage::is_host_and_port,
};

section! {
    /// Where to listen.
    pub struct Listeners {
        @sections {
            /// For clients.
            client: Listener;
            /// For other tiers.
            internal: InternalListener;
            /// For operators.
            ops: OpsListener;
        }
    }
}

section! {
    /// The listener for clients.
    pub struct Listener {
        /// Where clients connect.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8008));
        /// The certificate chain (PEM). With it and tls_key the listener speaks TLS, else plain HTTP.
        tls_cert: PathBuf = PathBuf::new();
        /// The key of the certificate (PEM).
        tls_key: PathBuf = PathBuf::new();
        /// Reverse proxies: a request from one of these addresses comes from whom its last X-Forwarded-For names.
        trusted_proxies: Vec<IpAddr> = Vec::new();
    }
}

section! {
    /// The listener for other tiers.
    pub struct InternalListener {
        /// gRPC between processes, over mutual TLS (see [cluster]). Nothing listens here while the store isn't shared.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        /// Where other processes find it, "host:port". Default: the address above.
        advertise: String = String::new();
    }
}

section! {
    /// The listener for operators.
    pub struct OpsListener {
        /// /health/live, /health/ready and /metrics; never on a public address.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9008));
    }
}

impl Check for Listeners {
    fn faults(&self) -> Vec<Fault> {
        let same = self.client.bind == self.ops.bind && self.ops.bind.port() != 0;
        if same { vec![("ops.bind", "the same as listeners.client.bind".to_owned())] } else { Vec::new() }
    }
}

impl Check for Listener {
    fn faults(&self) -> Vec<Fault> {
        match (self.tls_cert.as_os_str().is_empty(), self.tls_key.as_os_str().is_empty()) {
            (false, true) => vec![("tls_key", "missing, while there is a tls_cert".to_owned())],
            (true, false) => vec![("tls_cert", "missing, while there is a tls_key".to_owned())],
            _ => Vec::new(),
        }
    }
}

impl Check for InternalListener {
    fn faults(&self) -> Vec<Fault> {
        if self.advertise.is_empty() || is_host_and_port(&self.advertise) {
            return Vec::new();
        }
        vec![("advertise", format!("{:?} is not a host and a port, like 10.0.0.1:8009", self.advertise))]
    }
}

impl Check for OpsListener {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Listener {
    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !self.tls_cert.as_os_str().is_empty()
    }
}
