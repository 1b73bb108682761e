//! The operator's file: one for all tiers, every key overridden by the environment, unknown keys refused.
//!
//! A key is declared once, in [`settings`]' macro: name, type, default and meaning. The reference is printed from that.

mod bus;
mod cluster;
mod limits;
mod listeners;
mod load;
mod rate_limits;
mod reference;
mod registration;
mod rooms;
mod secret;
mod settings;
mod storage;
mod telemetry;
mod value;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use bus::{Bus, BusKind, Nats};
pub use cluster::Cluster;
pub use limits::Limits;
pub use listeners::{InternalListener, Listener, Listeners, OpsListener};
pub use load::{Faults, load};
pub use rate_limits::RateLimits;
pub use reference::reference;
pub use registration::{Passwords, Registration};
pub use rooms::Rooms;
pub use secret::Secret;
pub use storage::{Cql, Store, StoreKind};
pub use telemetry::{Log, LogFormat, Telemetry};

use settings::{Check, Fault, section};

section! {
    /// Everything that can be set.
    pub struct Config {
        /// The first tenant: what stands behind the colon of its users. It can't be changed later.
        server_name: String = "localhost".to_owned();
        /// Where clients find this server. Default: the client listener.
        public_baseurl: String = String::new();
        /// Signing keys and the embedded store live here; made at the first start.
        data_dir: PathBuf = PathBuf::from("./polity-data");
        /// How long requests under way may take after SIGTERM.
        shutdown_timeout_s: u64 = 30;
        @sections {
            /// Where to listen.
            listeners: Listeners;
            /// The store.
            store: Store;
            /// The bus.
            bus: Bus;
            /// This process among others.
            cluster: Cluster;
            /// Who may make accounts.
            registration: Registration;
            /// How passwords are kept.
            passwords: Passwords;
            /// How often clients may ask.
            rate_limits: RateLimits;
            /// How much the HTTP server takes on.
            limits: Limits;
            /// Rooms.
            rooms: Rooms;
            /// The log.
            log: Log;
            /// Traces.
            telemetry: Telemetry;
        }
    }
}

impl Config {
    /// What `serve` without a file begins with: registration is open as long as only this machine can reach the client
    /// listener (see [`load`]).
    #[must_use]
    pub fn single_binary_default() -> Self {
        let mut config = Self::default();
        config.registration.enabled = true;
        config
    }

    /// Secrets that may stand in a file of their own, and the key that names it.
    fn secrets(&mut self) -> [(&'static str, &mut Secret, &Path); 4] {
        let (registration, cql, nats) = (&mut self.registration, &mut self.store.cql, &mut self.bus.nats);
        [
            ("registration.shared_secret_file", &mut registration.shared_secret, &registration.shared_secret_file),
            ("store.cql.password_file", &mut cql.password, &cql.password_file),
            ("bus.nats.password_file", &mut nats.password, &nats.password_file),
            ("bus.nats.token_file", &mut nats.token, &nats.token_file),
        ]
    }

    /// What processes that share a store need to call each other.
    fn shared_store_faults(&self) -> Vec<Fault> {
        if self.store.kind != StoreKind::Cql {
            return Vec::new();
        }
        let Cluster { internal_ca, internal_cert, internal_key, .. } = &self.cluster;
        let files = [
            ("cluster.internal_ca", internal_ca),
            ("cluster.internal_cert", internal_cert),
            ("cluster.internal_key", internal_key),
        ];
        let missing = files.into_iter().filter(|(_, path)| path.as_os_str().is_empty());
        let mut faults: Vec<Fault> = missing
            .map(|(key, _)| (key, "missing: processes that share a store call each other over mutual TLS".to_owned()))
            .collect();
        let InternalListener { bind, advertise } = &self.listeners.internal;
        if bind.ip().is_unspecified() && advertise.is_empty() {
            faults.push(("listeners.internal.advertise", format!("missing: {bind} tells nobody where to connect")));
        }
        faults
    }

    /// Where clients find the server, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        if !self.public_baseurl.is_empty() {
            return self.public_baseurl.trim_end_matches('/').to_owned();
        }
        let scheme = if self.listeners.client.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.listeners.client.bind)
    }

    /// This process's name: as configured, or the host's name and the port of the tier's listener.
    #[must_use]
    pub fn node_name(&self, listener: SocketAddr) -> String {
        if !self.cluster.node_name.is_empty() {
            return self.cluster.node_name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        format!("{host}:{}", listener.port())
    }
}

/// Whether clients could find a server at an address: http or https, and a host.
#[must_use]
pub fn is_base_url(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    let is_plain = url.query().is_none() && url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    matches!(url.scheme_str(), Some("http" | "https")) && has_host && is_plain
}

impl Check for Config {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = &self.server_name;
        // https://spec.matrix.org/v1.19/appendices/#server-name
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if name.is_empty() || name.len() > 230 || !name.chars().all(allowed) {
            faults.push(("server_name", format!("{name:?} is no server name")));
        }
        let url = &self.public_baseurl;
        if !url.is_empty() && !is_base_url(url) {
            faults.push(("public_baseurl", format!("{url:?} is no http or https address")));
        }
        faults.extend(self.shared_store_faults());
        if self.data_dir.as_os_str().is_empty() {
            faults.push(("data_dir", "empty".to_owned()));
        }
        faults
    }
}

#[cfg(test)]
mod tests;
