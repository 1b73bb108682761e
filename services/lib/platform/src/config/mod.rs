//! The operator's file: one for all tiers, every key overridden by the environment, unknown keys refused.

mod keys;
mod load;

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

pub use keys::reference;
pub use load::{Faults, load};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The first tenant's server name.
    pub server_name: String,
    /// Where clients find the server; empty: the client listener.
    pub public_baseurl: String,
    /// Where data live.
    pub data_dir: PathBuf,
    /// How long requests under way may take at the end.
    pub shutdown_timeout_s: u64,
    /// Where to listen.
    pub listeners: Listeners,
    /// The store.
    pub store: Store,
    /// This process in the cluster.
    pub cluster: Cluster,
    /// Who may make accounts.
    pub registration: Registration,
    /// How passwords are kept.
    pub passwords: Passwords,
    /// How often clients may ask.
    pub rate_limits: RateLimits,
    /// Rooms.
    pub rooms: Rooms,
    /// The log.
    pub log: Log,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Listeners {
    /// For clients.
    pub client: Listener,
    /// For operators.
    pub ops: OpsListener,
}

/// A listener for clients.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its address.
    pub bind: SocketAddr,
}

/// The listener for operators.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct OpsListener {
    /// Its address.
    pub bind: SocketAddr,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Store {
    /// Which one.
    pub kind: StoreKind,
}

/// See [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// On disk, in the data folder.
    Embedded,
    /// In memory: gone with the process.
    Memory,
}

/// This process.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Its name; empty: the host's and the port.
    pub node_name: String,
}

/// Who may make accounts.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// Anybody.
    pub enabled: bool,
    /// Whoever has this secret; empty: nobody.
    pub shared_secret: String,
    /// A file that holds it.
    pub shared_secret_file: PathBuf,
}

/// How passwords are kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Passwords {
    /// Hashes that cost nothing and protect nothing.
    pub cheap_hash_for_tests: bool,
}

/// How often clients may ask.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct RateLimits {
    /// Whether there are limits.
    pub enabled: bool,
    /// Messages per user.
    pub messages_per_s: f64,
    /// Messages at once.
    pub messages_burst: u32,
    /// Logins and registrations per address.
    pub logins_per_s: f64,
    /// Logins and registrations at once.
    pub logins_burst: u32,
}

/// Rooms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Rooms {
    /// The version of new rooms.
    pub default_version: String,
    /// Whether the public list is public.
    pub public_list_without_auth: bool,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Log {
    /// What is logged.
    pub level: String,
    /// How.
    pub format: LogFormat,
    /// Where; empty: standard error.
    pub file: PathBuf,
}

/// See [`Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: "localhost".into(),
            public_baseurl: String::new(),
            data_dir: "./polity-data".into(),
            shutdown_timeout_s: 30,
            listeners: Listeners::default(),
            store: Store::default(),
            cluster: Cluster::default(),
            registration: Registration::default(),
            passwords: Passwords::default(),
            rate_limits: RateLimits::default(),
            rooms: Rooms::default(),
            log: Log::default(),
        }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self { client: Listener::default(), ops: OpsListener::default() }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 8008)) }
    }
}

impl Default for OpsListener {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 9008)) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { kind: StoreKind::Embedded }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { enabled: true, messages_per_s: 10.0, messages_burst: 100, logins_per_s: 0.5, logins_burst: 20 }
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self { default_version: "12".into(), public_list_without_auth: false }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text, file: PathBuf::new() }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of every log.
        let secret = if self.shared_secret.is_empty() { "none" } else { "set" };
        f.debug_struct("Registration").field("enabled", &self.enabled).field("shared_secret", &secret).finish()
    }
}

impl Config {
    /// Every value that can't be.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.server_name.is_empty() || self.server_name.contains(['/', ' ', '@']) {
            faults.push(format!("server_name: {:?} is no server name", self.server_name));
        }
        let url = &self.public_baseurl;
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            faults.push(format!("public_baseurl: {url:?} is no http or https address"));
        }
        if !matches!(self.rooms.default_version.as_str(), "10" | "11" | "12") {
            faults.push(format!("rooms.default_version: {:?} is not 10, 11 or 12", self.rooms.default_version));
        }
        if !matches!(self.log.level.as_str(), "error" | "warn" | "info" | "debug" | "trace") {
            faults.push(format!("log.level: {:?} is not error, warn, info, debug or trace", self.log.level));
        }
        let limits = &self.rate_limits;
        let impossible = |rate: f64| !rate.is_finite() || rate <= 0.0;
        if limits.enabled && (impossible(limits.messages_per_s) || impossible(limits.logins_per_s)) {
            faults.push("rate_limits: rates must be greater than 0".to_owned());
        }
        faults
    }

    /// Where clients find the server.
    #[must_use]
    pub fn base_url(&self) -> String {
        if self.public_baseurl.is_empty() {
            return format!("http://{}", self.listeners.client.bind);
        }
        self.public_baseurl.trim_end_matches('/').to_owned()
    }
}

#[cfg(test)]
mod tests;
