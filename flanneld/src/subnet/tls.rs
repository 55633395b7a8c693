//! Mutual TLS: both sides show a certificate of an authority that both name.

use super::BoxError;
use crate::pki::{self, Certificate, ClientFiles, Fault, Identity, Peer, Use, date};
use jiff::Timestamp;
use std::{
    error::Error,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
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
    #[error("{what} {}: {source}; `flanneld pki` makes a right one", .path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: BoxError,
    },
    /// A file has no certificate.
    #[error("certificate {}: the file contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate of this node cannot serve its purpose.
    #[error(
        "certificate {}: {fault}; on the machine of the authority `flanneld pki issue NAME{host}` makes a right one",
        .path.display()
    )]
    Unfit {
        path: PathBuf,
        fault: Box<Fault>,
        /// Empty, or the address that the certificate needs, after a space.
        host: String,
    },
    /// The private key belongs to another certificate.
    #[error(
        "private key {} is not that of certificate {}: copy both from one `flanneld pki issue`",
        .key.display(), .cert.display()
    )]
    KeyMismatch { key: PathBuf, cert: PathBuf },
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

impl TlsError {
    /// True if options are the reason, or a certificate that stays as bad as it is.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            TlsError::MissingOption(_) | TlsError::NotOnLoopback(_) => true,
            TlsError::Unfit { fault, .. } => fault.is_lasting(),
            _ => false,
        }
    }
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
        self.check(Use::Client)?;
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(certificates(&self.cert)?, self.private_key()?)
            .map_err(|error| self.unusable_pair(error))
    }

    /// Reads the files for a server at `host`, an address or a name; None: at every address.
    fn server(&self, host: Option<&str>) -> Result<ServerConfig, TlsError> {
        self.check(Use::Server(host))?;
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(unusable("authority", &self.ca))?;
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.cert)?, self.private_key()?)
            .map_err(|error| self.unusable_pair(error))
    }

    /// The name of the node that the certificate names.
    pub(crate) fn node_name(&self) -> Result<Option<String>, TlsError> {
        let certificate = self
            .own()?
            .map_err(|fault| self.unfit(fault, Use::Client))?;
        Ok(match Identity::of(&certificate) {
            Identity::Node { name, .. } => Some(name),
            Identity::Operator | Identity::Unnamed => None,
        })
    }

    /// Refuses a certificate that the other side would refuse.
    fn check(&self, what: Use<'_>) -> Result<(), TlsError> {
        let certificate = self.own()?.map_err(|fault| self.unfit(fault, what))?;
        certificate
            .check(what, now())
            .map_err(|fault| self.unfit(fault, what))
    }

    /// The node's own certificate, which is the first in its file.
    fn own(&self) -> Result<Result<Certificate, Fault>, TlsError> {
        let certificates = certificates(&self.cert)?;
        let first = certificates.first();
        let first = first.ok_or_else(|| TlsError::NoCertificate(self.cert.clone()))?;
        Ok(Certificate::parse(first))
    }

    fn unfit(&self, fault: Fault, what: Use<'_>) -> TlsError {
        let host = match what {
            Use::Client => String::new(),
            Use::Server(host) => format!(" {}", host.unwrap_or("ADDRESS")),
        };
        TlsError::Unfit {
            path: self.cert.clone(),
            fault: Box::new(fault),
            host,
        }
    }

    fn unusable_pair(&self, error: rustls::Error) -> TlsError {
        if pki::is_key_mismatch(&error) {
            return TlsError::KeyMismatch {
                key: self.key.clone(),
                cert: self.cert.clone(),
            };
        }
        unusable("certificate", &self.cert)(error)
    }

    /// Warns of certificates, this node's and its authorities', that end within 30 days.
    fn warn_of_end(&self) {
        for (what, path) in [("certificate", &self.cert), ("authority", &self.ca)] {
            let certificates = certificates(path).unwrap_or_default();
            let certificates = certificates
                .iter()
                .take(if what == "certificate" { 1 } else { 8 });
            let read = certificates.filter_map(|der| Certificate::parse(der).ok());
            let Some(end) = read.filter_map(|one| one.ends_soon(now())).min() else {
                continue;
            };
            let command = match what {
                "certificate" => "issue NAME",
                _ => "rotate",
            };
            tracing::warn!(
                "{what} {} ends on {}: renew it in time (`flanneld pki {command}`)",
                path.display(),
                date(end)
            );
        }
    }

    fn modified(&self) -> Modified {
        [&self.key, &self.cert, &self.ca].map(|file| fs::metadata(file).ok()?.modified().ok())
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(not_pem("private key", &self.key))
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

/// The client's side. Reads the files for each connection.
pub(super) struct ClientTls {
    files: TlsFiles,
    warned: Daily,
}

impl ClientTls {
    pub(super) fn new(files: TlsFiles) -> ClientTls {
        let warned = Daily::default();
        ClientTls { files, warned }
    }

    /// For the next connection.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let config = self.files.client()?;
        if self.warned.is_due() {
            self.files.warn_of_end();
        }
        Ok(config)
    }

    /// Why the connection to `server` failed, if TLS is why.
    pub(super) fn in_words(&self, server: &str, error: &(dyn Error + 'static)) -> Option<String> {
        let files = ClientFiles {
            peer: Peer::LeaseServer,
            server,
            certificate: Some(&self.files.cert),
            authority: Some(&self.files.ca),
        };
        pki::server_refused(error, files)
    }
}

/// Whether a client can show a certificate, the first of a PEM file. Returns when it ends, seconds
/// since 1970, if that is within 30 days.
pub(super) fn fit_for_client(pem: &[u8]) -> Result<Option<i64>, Fault> {
    let unreadable = |what: &dyn ToString| Fault::Unreadable(what.to_string());
    let first = CertificateDer::pem_slice_iter(pem).next();
    let first = first.ok_or_else(|| unreadable(&"the file contains none"))?;
    let first = first.map_err(|error| unreadable(&error))?;
    let certificate = Certificate::parse(&first)?;
    certificate.check(Use::Client, now())?;
    Ok(certificate.ends_soon(now()))
}

/// Whether a client can prove that the first certificate of a PEM file is its own by this private
/// key, PEM as well.
pub(super) fn is_pair(certificate: &[u8], key: &[u8]) -> Result<bool, BoxError> {
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => "the file contains none".into(),
        error => BoxError::from(error),
    })?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(certificates, key);
    match config {
        Ok(_) => Ok(true),
        Err(error) if pki::is_key_mismatch(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// True once a day: connections come more often, since each node renews its lease daily.
#[derive(Default)]
pub(super) struct Daily(Mutex<Option<Instant>>);

impl Daily {
    pub(super) fn is_due(&self) -> bool {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= DAY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// The server's side. Reads the files again when one of them changes: rotated certificates need no
/// restart.
pub(super) struct ServerTls {
    files: TlsFiles,
    /// Where it listens; None: at every address.
    host: Option<String>,
    warned: Daily,
    current: Mutex<(TlsAcceptor, Modified)>,
}

impl ServerTls {
    /// `host` is that of `-listen`: HOST:PORT.
    pub(super) fn new(files: TlsFiles, host: &str) -> Result<ServerTls, TlsError> {
        let host = host.trim_matches(['[', ']']);
        let is_every = |ip: IpAddr| ip.is_unspecified();
        let every = host.is_empty() || host.parse().is_ok_and(is_every);
        let host = (!every).then(|| host.to_owned());
        let acceptor = TlsAcceptor::from(Arc::new(files.server(host.as_deref())?));
        let current = Mutex::new((acceptor, files.modified()));
        Ok(ServerTls {
            files,
            host,
            warned: Daily::default(),
            current,
        })
    }

    /// For the next connection. The last usable files stay in use while the new ones are unusable.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let modified = self.files.modified();
        if self.warned.is_due() {
            self.files.warn_of_end();
        }
        if modified != current.1 {
            current.1 = modified;
            match self.files.server(self.host.as_deref()) {
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

/// A file that cannot be read, or is no PEM file.
fn not_pem(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |error| {
        let source: BoxError = match error {
            pem::Error::Io(error) => error.into(),
            pem::Error::NoItemsFound => format!("the file contains no {what}").into(),
            error => format!("it is no PEM file: {error}").into(),
        };
        TlsError::File { what, path, source }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(not_pem("certificate", path))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Holder};

    #[test]
    fn end_of_a_clients_certificate_is_told_before_and_after() {
        const DAY: i64 = 24 * 60 * 60;
        let start = now() - 50 * DAY;
        let own = Authority::create(start).unwrap();
        let der = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
        let authority = Authority::load(&der, &own.key).unwrap();
        let fit = |days: i64| {
            let hosts = Vec::new();
            let holder = Holder::Node {
                name: "node-a",
                hosts: &hosts,
            };
            let issued = authority.issue(holder, start, days * DAY).unwrap();
            fit_for_client(issued.certificate.as_bytes())
        };
        assert_eq!(fit(100), Ok(None));
        assert!(matches!(fit(60), Ok(Some(end)) if end > now()));
        assert!(matches!(fit(40), Err(Fault::Expired(_))));
        let junk = fit_for_client(b"junk").unwrap_err().to_string();
        assert!(junk.ends_with("the file contains none"), "{junk}");
    }
}
