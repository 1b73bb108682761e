//! Who servers are believed to be, and who this process is towards them: from files that are looked at again, so that a driver which was
//! given its TLS once goes on when certificates are renewed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{TlsError, authorities, pair, provider};

/// Connections that are made more often don't look at the files each.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });

/// See the module.
#[derive(Debug)]
pub(super) struct Fresh {
    ca: PathBuf,
    own: Option<(PathBuf, PathBuf)>,
    read: Mutex<Read>,
}

/// What was read last.
#[derive(Debug)]
struct Read {
    looked: Instant,
    changed: Vec<Option<SystemTime>>,
    used: Used,
}

#[derive(Debug, Clone)]
struct Used {
    servers: Arc<WebPkiServerVerifier>,
    own: Option<Arc<CertifiedKey>>,
}

impl Fresh {
    /// Reads the files.
    pub(super) fn load(ca: PathBuf, own: Option<(PathBuf, PathBuf)>) -> Result<Arc<Self>, TlsError> {
        let (changed, used) = (changed(&ca, own.as_ref()), used(&ca, own.as_ref())?);
        Ok(Arc::new(Self { ca, own, read: Mutex::new(Read { looked: Instant::now(), changed, used }) }))
    }

    /// What the files hold; what they held before, if they can't be used now.
    fn now(&self) -> Used {
        let mut read = self.read.lock();
        if read.looked.elapsed() >= LOOK {
            read.looked = Instant::now();
            let changed = changed(&self.ca, self.own.as_ref());
            if changed != read.changed {
                match used(&self.ca, self.own.as_ref()) {
                    Ok(used) => {
                        read.used = used;
                        read.changed = changed;
                    }
                    // Of several files some may be written yet.
                    Err(error) => tracing::warn!(%error, "changed certificates can't be used"),
                }
            }
        }
        read.used.clone()
    }
}

/// When the files were written last.
fn changed(ca: &Path, own: Option<&(PathBuf, PathBuf)>) -> Vec<Option<SystemTime>> {
    let files = [ca].into_iter().chain(own.into_iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]));
    files.map(|file| file.metadata().and_then(|metadata| metadata.modified()).ok()).collect()
}

fn used(ca: &Path, own: Option<&(PathBuf, PathBuf)>) -> Result<Used, TlsError> {
    let servers = WebPkiServerVerifier::builder_with_provider(authorities(ca)?, provider()).build();
    let servers = servers.map_err(|error| Error::General(error.to_string()))?;
    let read_own = |(cert, key): &(PathBuf, PathBuf)| {
        let (chain, key) = pair(cert, key)?;
        Ok::<_, TlsError>(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
    };
    Ok(Used { servers, own: own.map(read_own).transpose()? })
}

impl ServerCertVerifier for Fresh {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.now().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().servers.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().servers.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().servers.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Fresh {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now().own
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose as Use, IsCa, KeyPair};
    use rustls::{ServerConfig, server::WebPkiClientVerifier};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use crate::tls::{authorities, client, pair, provider};

    /// Writes an authority and a certificate of it for localhost into a folder.
    fn renew(folder: &Path) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        let write = |file: &str, text: String| fs::write(folder.join(file), text).unwrap();
        write("ca.pem", authority.pem());
        write("cert.pem", cert.pem());
        write("key.pem", key.serialize_pem());
    }

    /// A server with what the folder holds now; whether it and a client let each other in.
    async fn greets(folder: &Path, connector: &TlsConnector) -> bool {
        let roots = authorities(&folder.join("ca.pem")).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
        let (chain, key) = pair(&folder.join("cert.pem"), &folder.join("key.pem")).unwrap();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let server = builder.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let greet = async {
            let (stream, _) = listener.accept().await?;
            TlsAcceptor::from(std::sync::Arc::new(server)).accept(stream).await?.write_all(b"hello").await
        };
        let hear = async {
            let stream = TcpStream::connect(address).await?;
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.map(|_| heard)
        };
        matches!(tokio::join!(greet, hear), (Ok(()), Ok(heard)) if &heard == b"hello")
    }

    #[tokio::test]
    async fn renewed_certificates_are_used_without_a_restart_and_unusable_ones_are_not() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path();
        renew(path);
        renew(elsewhere.path());
        let own = (path.join("cert.pem"), path.join("key.pem"));
        let connector = TlsConnector::from(client(&path.join("ca.pem"), Some((&own.0, &own.1))).unwrap());
        assert!(greets(path, &connector).await);
        assert!(!greets(elsewhere.path(), &connector).await, "a stranger");
        // File systems may tell times by the hundredth of a second only.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        renew(path);
        assert!(greets(path, &connector).await, "both sides are new");
        let good = fs::read(&own.0).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        fs::write(&own.0, "half a file").unwrap();
        let before = tempfile::tempdir().unwrap();
        for file in ["ca.pem", "key.pem"] {
            fs::copy(path.join(file), before.path().join(file)).unwrap();
        }
        fs::write(before.path().join("cert.pem"), good).unwrap();
        assert!(greets(before.path(), &connector).await, "what was there before still holds");
    }
}
