//! Certificates and keys from files, and what TLS is made of.

mod fresh;

use std::path::{Path, PathBuf};

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

use fresh::Fresh;

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds no certificate or key.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// Certificate and key don't fit.
    #[error("the certificate can't be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A member's certificate that other members would refuse.
    #[error("{}: other members would refuse this certificate: {reason}", path.display())]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A certificate chain and the key of its first certificate.
pub(crate) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What is encrypted with. With this provider's defaults the hybrid X25519MLKEM768 is preferred.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads a certificate chain and its key.
pub(crate) fn pair(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let key = PrivateKeyDer::from_pem_file(key).map_err(in_file(key))?;
    Ok((certificates(cert)?, key))
}

/// Reads the certificates of a file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    chain.map_err(in_file(path))
}

/// Reads authorities; the file may hold several.
pub(crate) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

/// How a server with a certificate of one of the authorities in `ca` is spoken to, with a certificate of one's own where it asks
/// for one. The files are looked at again when connections are made.
///
/// # Errors
/// When a file can't be read or used.
pub fn client(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let own = own.map(|(cert, key)| (cert.to_owned(), key.to_owned()));
    let fresh = Fresh::load(ca.to_owned(), own)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::clone(&fresh) as _);
    Ok(Arc::new(builder.with_client_cert_resolver(fresh)))
}

fn in_file(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::File { path: path.clone(), error }
}
