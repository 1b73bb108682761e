//! TLS for listeners: a certificate chain and its key, read again when asked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::tls::{TlsError, pair, provider};

/// How a listener speaks TLS now; new connections see a change.
#[derive(Debug)]
pub(crate) struct Acceptor(RwLock<Arc<ServerConfig>>);

/// A certificate and its key, by the names of their files.
#[derive(Debug)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    acceptor: Arc<Acceptor>,
}

// === impl Acceptor ===

impl Acceptor {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(config)))
    }

    pub(crate) fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write() = config;
    }

    pub(super) fn current(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read()))
    }
}

// === impl Tls ===

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they can't be read or don't fit.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let acceptor = Acceptor::new(read(cert, key)?);
        Ok(Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), acceptor }))
    }

    /// Reads both files again: new connections get what they hold now.
    ///
    /// # Errors
    /// As [`Tls::load`]; then all stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.acceptor.replace(read(&self.cert, &self.key)?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.acceptor)
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = pair(cert, key)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
