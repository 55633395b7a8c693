//! Mutual TLS: both sides show a certificate of an authority that both name. Whoever has such a
//! certificate may do anything in the store, so the authority should serve no other purpose.

use super::BoxError;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// Why TLS cannot be used with the given files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// Some of the three options are given, but not this one.
    #[error(
        "-{0} is missing: mutual TLS needs -remote-keyfile, -remote-certfile and -remote-cafile"
    )]
    MissingOption(&'static str),
    /// A file cannot be read, or its content cannot be used.
    #[error("{what} {}: {source}", .path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: BoxError,
    },
    /// A file has no certificate.
    #[error("certificate {}: the file contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The versions of TLS do not fit the cryptography.
    #[error(transparent)]
    Provider(rustls::Error),
    /// An address off loopback without TLS.
    #[error(
        "{0} is not on loopback: any client of the lease API could take any node's subnet. Configure on both sides \
         -remote-keyfile, -remote-certfile and -remote-cafile, or set -insecure if the link is private"
    )]
    NotOnLoopback(String),
}

/// `-remote-keyfile`, `-remote-certfile`, `-remote-cafile`: PEM files, for server and client alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TlsFiles {
    /// The private key.
    pub(crate) key: PathBuf,
    /// The certificate, intermediates after it.
    pub(crate) cert: PathBuf,
    /// The authorities that the other side's certificate must come from.
    pub(crate) ca: PathBuf,
}

impl TlsFiles {
    /// From the three options: all of them, or none.
    pub(crate) fn from_options(
        key: &str,
        cert: &str,
        ca: &str,
    ) -> Result<Option<TlsFiles>, TlsError> {
        let options = [
            ("remote-keyfile", key),
            ("remote-certfile", cert),
            ("remote-cafile", ca),
        ];
        if options.iter().all(|(_, value)| value.is_empty()) {
            return Ok(None);
        }
        if let Some((missing, _)) = options.iter().find(|(_, value)| value.is_empty()) {
            return Err(TlsError::MissingOption(missing));
        }
        Ok(Some(TlsFiles {
            key: key.into(),
            cert: cert.into(),
            ca: ca.into(),
        }))
    }

    /// Reads the files for a client.
    pub(super) fn client(&self) -> Result<ClientConfig, TlsError> {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(certificates(&self.cert)?, self.private_key()?)
            .map_err(unusable("certificate", &self.cert))
    }

    fn server(&self) -> Result<ServerConfig, TlsError> {
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(unusable("authority", &self.ca))?;
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.cert)?, self.private_key()?)
            .map_err(unusable("certificate", &self.cert))
    }

    fn modified(&self) -> Modified {
        [&self.key, &self.cert, &self.ca].map(|file| fs::metadata(file).ok()?.modified().ok())
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(unusable("private key", &self.key))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(unusable("authority", &self.ca))?;
        }
        Ok(roots)
    }
}

/// When each file was modified last; None for one that is not there.
type Modified = [Option<SystemTime>; 3];

/// The server's side. Reads the files again when one of them changes: rotated certificates need no
/// restart.
pub(super) struct ServerTls {
    files: TlsFiles,
    current: Mutex<(TlsAcceptor, Modified)>,
}

impl ServerTls {
    pub(super) fn new(files: TlsFiles) -> Result<ServerTls, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(files.server()?));
        let current = Mutex::new((acceptor, files.modified()));
        Ok(ServerTls { files, current })
    }

    /// For the next connection. The last usable files stay in use while the new ones are unusable.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let modified = self.files.modified();
        if modified != current.1 {
            current.1 = modified;
            match self.files.server() {
                Ok(config) => {
                    current.0 = TlsAcceptor::from(Arc::new(config));
                    tracing::info!("loaded new certificates: {}", self.files.cert.display());
                }
                Err(error) => tracing::error!(
                    "cannot load the new certificates, the previous ones stay in use: {error}"
                ),
            }
        }
        current.0.clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable<E: Into<BoxError>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::File {
        what,
        path,
        source: error.into(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(unusable("certificate", path))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// Off loopback the lease API needs mutual TLS, or the explicit option `-insecure`.
pub(super) fn require(
    address: impl ToString,
    loopback: bool,
    tls: bool,
    insecure: bool,
) -> Result<(), TlsError> {
    if tls || insecure || loopback {
        Ok(())
    } else {
        Err(TlsError::NotOnLoopback(address.to_string()))
    }
}
