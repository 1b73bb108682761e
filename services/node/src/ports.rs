//! Where a process listens. All addresses are taken before anything else is touched: who can't serve changes nothing.

use std::sync::Arc;

use polity_platform::{
    config::{Config, StoreKind},
    grpc::{Identity, IdentityFiles},
    http::{self, Reserved, Tls},
    lifecycle::exit,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, tier::Tier};

/// See the module.
pub(crate) struct Ports {
    /// For operators: they are answered from the beginning.
    pub(crate) ops: TcpListener,
    pub(crate) client: Option<ClientPort>,
    pub(crate) internal: Option<InternalPort>,
}

/// Where clients connect.
pub(crate) struct ClientPort {
    pub(crate) reserved: Reserved,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// Where other processes connect.
pub(crate) struct InternalPort {
    pub(crate) reserved: Reserved,
    pub(crate) identity: Arc<Identity>,
    /// What others are told.
    pub(crate) address: String,
}

/// What is read again at SIGHUP.
pub(crate) struct Certificates {
    tls: Option<Arc<Tls>>,
    identity: Option<Arc<Identity>>,
}

// === impl Ports ===

impl Ports {
    pub(crate) fn take(tier: Tier, config: &Config) -> Result<Self, Failure> {
        let client = if tier.serves_clients() { Some(ClientPort::take(config)?) } else { None };
        // Nobody calls a process whose store is its own.
        let shared = config.store.kind == StoreKind::Cql;
        let internal = if shared { Some(InternalPort::take(config)?) } else { None };
        Ok(Self { ops: http::bind(config.listeners.ops.bind)?, client, internal })
    }

    pub(crate) fn certificates(&self) -> Certificates {
        let tls = self.client.as_ref().and_then(|port| port.tls.clone());
        Certificates { tls, identity: self.internal.as_ref().map(|port| Arc::clone(&port.identity)) }
    }

    /// Where other processes find this one; empty: nowhere.
    pub(crate) fn address(&self) -> &str {
        self.internal.as_ref().map_or("", |port| &port.address)
    }
}

impl ClientPort {
    fn take(config: &Config) -> Result<Self, Failure> {
        let listener = &config.listeners.client;
        let reserved = http::reserve(listener.bind)?;
        let tls = listener.is_tls().then(|| Tls::load(&listener.tls_cert, &listener.tls_key)).transpose();
        Ok(Self { reserved, tls: tls.map_err(|error| Failure::new(exit::USAGE, error))? })
    }
}

impl InternalPort {
    fn take(config: &Config) -> Result<Self, Failure> {
        let (listener, cluster) = (&config.listeners.internal, &config.cluster);
        let reserved = http::reserve(listener.bind)?;
        let files = IdentityFiles {
            ca: cluster.internal_ca.clone(),
            cert: cluster.internal_cert.clone(),
            key: cluster.internal_key.clone(),
        };
        let identity = Identity::load(files).map_err(|error| Failure::new(exit::USAGE, error))?;
        let told = &listener.advertise;
        let address = if told.is_empty() { reserved.address().to_string() } else { told.clone() };
        Ok(Self { reserved, identity, address })
    }
}

// === impl Certificates ===

impl Certificates {
    /// Reads them again: an operator sends SIGHUP after a renewal.
    pub(crate) fn reload(&self) {
        let both = [self.tls.as_ref().map(|tls| tls.reload()), self.identity.as_ref().map(|own| own.reload())];
        for outcome in both.into_iter().flatten() {
            match outcome {
                Ok(()) => tracing::info!("a certificate was read again"),
                Err(error) => tracing::error!(%error, "the new certificate can't be used: the old one stays"),
            }
        }
    }

    /// Reads the internal one again whenever it changes, until `stop`.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        match &self.identity {
            Some(identity) => identity.watch(stop).await,
            None => stop.cancelled().await,
        }
    }
}
