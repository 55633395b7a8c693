//! Mutual TLS: both sides show a certificate of an authority that both name. Anybody with such a certificate may do
//! anything in the store: the authority should be for this alone.
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// `--remote-keyfile`, `--remote-certfile`, `--remote-cafile`: PEM files, for server and client alike.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsFiles {
    /// Our private key.
    pub key: PathBuf,
    /// Our certificate, intermediates after it.
    pub cert: PathBuf,
    /// The authorities that the other side's certificate must come from.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// From the three flags: all of them, or none.
    pub fn from_flags(key: &str, cert: &str, ca: &str) -> Result<Option<TlsFiles>, String> {
        if [key, cert, ca].iter().all(|flag| flag.is_empty()) {
            return Ok(None);
        }
        for (name, flag) in [
            ("remote-keyfile", key),
            ("remote-certfile", cert),
            ("remote-cafile", ca),
        ] {
            if flag.is_empty() {
                return Err(format!(
                    "-{name} is missing: mutual TLS needs -remote-keyfile, -remote-certfile and -remote-cafile"
                ));
            }
        }
        Ok(Some(TlsFiles {
            key: key.into(),
            cert: cert.into(),
            ca: ca.into(),
        }))
    }

    /// Reads the files for a server.
    fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots()?.into(), provider.clone())
                .build()
                .map_err(|error| format!("{}: {error}", self.ca.display()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates()?, self.private_key()?)
            .map_err(|error| format!("{}: {error}", self.cert.display()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files for a client.
    pub(super) fn connector(&self) -> Result<TlsConnector, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.certificates()?, self.private_key()?)
            .map_err(|error| format!("{}: {error}", self.cert.display()))?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn times(&self) -> Times {
        [&self.key, &self.cert, &self.ca].map(|file| fs::metadata(file).ok()?.modified().ok())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        pem_certificates(&self.cert)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| format!("private key {}: {error}", self.key.display()))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in pem_certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| format!("authority {}: {error}", self.ca.display()))?;
        }
        Ok(roots)
    }
}

/// The server's side, read again when one of the files changes: rotated certificates need no restart.
pub(super) struct Acceptors {
    files: TlsFiles,
    current: Mutex<(TlsAcceptor, Times)>,
}

/// When each file was written last.
type Times = [Option<SystemTime>; 3];

impl Acceptors {
    /// Reads the files.
    pub(super) fn new(files: &TlsFiles) -> Result<Acceptors, String> {
        Ok(Acceptors {
            files: files.clone(),
            current: Mutex::new((files.acceptor()?, files.times())),
        })
    }

    /// For the next connection. Files that cannot be used leave the ones of before in use.
    pub(super) fn get(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let times = self.files.times();
        if times != current.1 {
            current.1 = times;
            match self.files.acceptor() {
                Ok(acceptor) => {
                    current.0 = acceptor;
                    tracing::info!("new certificates: {}", self.files.cert.display());
                }
                Err(error) => {
                    tracing::error!("the certificates of before stay in use: {error}");
                }
            }
        }
        current.0.clone()
    }
}

fn pem_certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("certificate {}: {error}", path.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| bad(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| bad(&error))?;
    if certificates.is_empty() {
        return Err(bad(&"no certificate in it"));
    }
    Ok(certificates)
}

/// Off loopback the lease API is spoken with mutual TLS, or without after an explicit word.
pub(super) fn permitted(
    address: &str,
    loopback: bool,
    tls: bool,
    insecure: bool,
) -> Result<(), String> {
    if tls || insecure || loopback {
        return Ok(());
    }
    Err(format!(
        "{address} is not on loopback: whoever reaches the lease API there could take any node's subnet. Give both sides \
         -remote-keyfile, -remote-certfile and -remote-cafile, or say -insecure if the link is private"
    ))
}
