//! Who this process is towards other members: certificate, key and authority, read again when their files change.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    http::Acceptor,
    tls::{TlsError, authorities, pair, provider},
};

/// The name that the certificate of every member is for.
pub const MEMBER_NAME: &str = "polity.internal";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The files of an identity, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The authority whose certificates are believed; several during a change.
    pub ca: PathBuf,
    /// This process's certificate, for [`MEMBER_NAME`], to serve and to call.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub struct Identity {
    files: IdentityFiles,
    server: Arc<Acceptor>,
    client: RwLock<Arc<ClientConfig>>,
    /// Of what was read last, whether it could be used or not.
    fingerprint: Mutex<u64>,
}

// === impl Identity ===

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// When they can't be read, or other members would refuse the certificate.
    pub fn load(files: IdentityFiles) -> Result<Arc<Self>, TlsError> {
        let fingerprint = Mutex::new(files.fingerprint());
        let (server, client) = files.read()?;
        Ok(Arc::new(Self { server: Acceptor::new(server), client: RwLock::new(client), fingerprint, files }))
    }

    /// Reads the files again: new connections use what they hold now, those that are open stay.
    ///
    /// # Errors
    /// As [`Identity::load`]; then all stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.fingerprint.lock() = self.files.fingerprint();
        let (server, client) = self.files.read()?;
        self.server.replace(server);
        *self.client.write() = client;
        Ok(())
    }

    /// Reads the files again whenever they have changed, until `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            self.look();
        }
    }

    /// Reads the files again if they have changed.
    pub(super) fn look(&self) {
        if self.files.fingerprint() == *self.fingerprint.lock() {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("the internal certificate has changed and was read again"),
            // Said once: it is tried again when they change again.
            Err(error) => tracing::error!(%error, "the new internal certificate can't be used: the old one stays"),
        }
    }

    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.server)
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.client.read()))
    }
}

// === impl IdentityFiles ===

impl IdentityFiles {
    /// Changes when the files do.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in [&self.ca, &self.cert, &self.key] {
            fs::read(path).map(Zeroizing::new).unwrap_or_default().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn read(&self) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), TlsError> {
        let authorities = authorities(&self.ca)?;
        let (chain, key) = pair(&self.cert, &self.key)?;
        let unfit =
            |error: rustls::server::VerifierBuilderError| TlsError::Unusable(rustls::Error::General(error.to_string()));
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), provider());
        let clients = clients.build().map_err(unfit)?;
        check(&self.cert, &chain, &authorities, &*clients)?;
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let mut server = builder.with_client_cert_verifier(clients).with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let mut client = builder.with_root_certificates(authorities).with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok((Arc::new(server), Arc::new(client)))
    }
}

/// Whether other members would take the certificate: better said at the start than at every call.
fn check(
    path: &Path,
    chain: &[CertificateDer<'static>],
    authorities: &Arc<RootCertStore>,
    clients: &dyn ClientCertVerifier,
) -> Result<(), TlsError> {
    let refused = |reason: String| TlsError::Refused { path: path.to_owned(), reason };
    let (own, between) = chain.split_first().ok_or_else(|| refused("there is none in the file".to_owned()))?;
    let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(authorities), provider());
    let servers = servers.build().map_err(|error| refused(error.to_string()))?;
    let now = UnixTime::now();
    let served = servers.verify_server_cert(own, between, &member_name(), &[], now);
    served.map_err(|error| refused(error.to_string()))?;
    clients.verify_client_cert(own, between, now).map(drop).map_err(|error| refused(error.to_string()))
}

/// [`MEMBER_NAME`], as TLS takes it.
pub(super) fn member_name() -> ServerName<'static> {
    ServerName::try_from(MEMBER_NAME).unwrap_or_else(|_| unreachable!("the name is one"))
}
