//! The connection to etcd: to one endpoint at a time. A request that fails there goes to the next
//! one. Certificates are read and the user is authenticated for each connection.

use super::error::{EndpointError, Failure, IdentityError, Kind, Reason};
use crate::{
    best_effort::best_effort,
    pki::{self, ClientFiles, Peer, date},
    subnet::tls::{self, Daily},
};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;
use tracing::{debug, warn};

/// For a connection, the TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long without data an HTTP/2 ping asks whether the server is still there. etcd accepts
/// one each 5 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// For the answer to the ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of `-etcd-endpoints`, upstream's.
const DEFAULT_ENDPOINTS: [&str; 2] = ["http://127.0.0.1:4001", "http://127.0.0.1:2379"];

/// Where distributions keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How to reach etcd.
#[derive(Default)]
pub(crate) struct ConnectionOptions {
    /// `-etcd-endpoints`
    pub(crate) endpoints: String,
    /// `-etcd-keyfile`
    pub(crate) key: String,
    /// `-etcd-certfile`
    pub(crate) cert: String,
    /// `-etcd-cafile`
    pub(crate) ca: String,
    /// `-etcd-username`
    pub(crate) user: String,
    /// `-etcd-password`
    pub(crate) password: String,
}

pub(super) struct Connection {
    endpoints: Vec<Endpoint>,
    /// The private key and the certificate that this node shows.
    identity: Option<(PathBuf, PathBuf)>,
    ca: Option<PathBuf>,
    user: Option<(String, String)>,
    warned: Daily,
    current: Mutex<Current>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    url: String,
    tls: bool,
}

/// The endpoint in use, and the client while it has not failed.
struct Current {
    index: usize,
    client: Option<Client>,
}

impl Connection {
    /// Checks the options; connects later.
    pub(super) fn new(options: ConnectionOptions) -> Result<Connection, EndpointError> {
        let has_identity = !options.key.is_empty() && !options.cert.is_empty();
        let endpoints = endpoints(&options.endpoints, has_identity)?;
        for warning in unused_options(&options, &endpoints) {
            warn!("{warning}");
        }
        let random = best_effort(getrandom::u32(), "the first endpoint is tried first");
        let index = random.unwrap_or(0) as usize % endpoints.len();
        let has_user = !options.user.is_empty() && !options.password.is_empty();
        Ok(Connection {
            endpoints,
            identity: has_identity.then(|| (options.key.into(), options.cert.into())),
            ca: (!options.ca.is_empty()).then(|| options.ca.into()),
            user: has_user.then_some((options.user, options.password)),
            warned: Daily::default(),
            current: Mutex::new(Current {
                index,
                client: None,
            }),
        })
    }

    /// Refuses a certificate and a key that etcd would refuse, now and later. Files that cannot be
    /// read may come yet.
    pub(super) fn check_identity(&self) -> Result<(), IdentityError> {
        if !self.endpoints.iter().any(|endpoint| endpoint.tls) {
            return Ok(());
        }
        match self.identity() {
            Err(Reason::Identity(error)) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// For messages.
    pub(super) fn urls(&self) -> String {
        let urls: Vec<&str> = self.endpoints.iter().map(|at| at.url.as_str()).collect();
        urls.join(", ")
    }

    /// True if the options name an etcd.
    pub(super) fn is_named(&self) -> bool {
        let urls = self.endpoints.iter().map(|endpoint| endpoint.url.as_str());
        !urls.eq(DEFAULT_ENDPOINTS)
    }

    /// Makes a request, at the next endpoint if one does not answer, until each has been tried.
    pub(super) async fn call<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            let (index, endpoint) = self.endpoint();
            let answer = match self.client(index, endpoint).await {
                Ok(client) => match timeout(REQUEST_TIMEOUT, request(client)).await {
                    Ok(answer) => answer.map_err(Reason::from),
                    Err(_) => Err(Reason::Timeout(REQUEST_TIMEOUT)),
                },
                Err(reason) => Err(reason),
            };
            let reason = match answer {
                Ok(answer) => return Ok(answer),
                Err(reason) => reason,
            };
            let url = endpoint.url.clone();
            match reason.kind() {
                Kind::Endpoint => self.leave(index),
                Kind::TooLong | Kind::Compacted | Kind::NoLease => {
                    return Err(Failure::Refused { url, reason });
                }
                Kind::AuthDisabled | Kind::Refused => {
                    // the next request authenticates again: tokens end, passwords change
                    self.disconnect();
                    return Err(Failure::Refused { url, reason });
                }
            }
            debug!("{url}: {reason}");
            if let Some(words) = self.tls_in_words(&url, &reason) {
                reasons.push(format!("{url}: {words}"));
                continue;
            }
            // the alert of a server that demands a certificate may be lost with the connection
            let hint = match endpoint.tls && self.identity.is_none() {
                true => " (if etcd demands a certificate: -etcd-certfile and -etcd-keyfile)",
                false => "",
            };
            reasons.push(format!("{url}: {reason}{hint}"));
        }
        Err(Failure::NoAnswer(reasons))
    }

    /// Why a TLS handshake failed, if one did.
    fn tls_in_words(&self, url: &str, reason: &Reason) -> Option<String> {
        let Reason::Client(error) = reason else {
            return None;
        };
        let error: &(dyn std::error::Error + 'static) = match error {
            etcd_client::Error::TransportError(error) => error,
            etcd_client::Error::GRpcStatus(status) => status,
            _ => return None,
        };
        let files = ClientFiles {
            peer: Peer::Etcd,
            server: url.split_once("://").map_or(url, |(_, server)| server),
            certificate: self.identity.as_ref().map(|(_, cert)| cert.as_path()),
            authority: self.ca.as_deref(),
        };
        pki::server_refused(error, files)
    }

    /// The connection has failed outside of a request: the next request uses another endpoint.
    pub(super) fn failed(&self) {
        let (index, _) = self.endpoint();
        self.leave(index);
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self) -> (usize, &Endpoint) {
        let index = self.current().index;
        (index, &self.endpoints[index % self.endpoints.len()])
    }

    fn disconnect(&self) {
        self.current().client = None;
    }

    /// Goes on to the next endpoint, unless another request has done so.
    fn leave(&self, index: usize) {
        let mut current = self.current();
        if current.index == index {
            current.client = None;
            current.index = (index + 1) % self.endpoints.len();
        }
    }

    async fn client(&self, index: usize, endpoint: &Endpoint) -> Result<Client, Reason> {
        if let Some(client) = &self.current().client {
            return Ok(client.clone());
        }
        let connect = self.connect(endpoint);
        let client = timeout(REQUEST_TIMEOUT, connect)
            .await
            .unwrap_or(Err(Reason::Timeout(REQUEST_TIMEOUT)))?;
        let mut current = self.current();
        if current.index == index {
            current.client = Some(client.clone());
        }
        Ok(client)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Client, Reason> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if endpoint.tls {
            options = options.with_tls(self.tls()?);
        }
        let url = [endpoint.url.as_str()];
        let Some((user, password)) = &self.user else {
            return Ok(Client::connect(url, Some(options)).await?);
        };
        let with_user = options.clone().with_user(user, password);
        match Client::connect(url, Some(with_user))
            .await
            .map_err(Reason::from)
        {
            // as Go's client: the user is not needed
            Err(reason) if reason.kind() == Kind::AuthDisabled => {
                Ok(Client::connect(url, Some(options)).await?)
            }
            client => client,
        }
    }

    fn tls(&self) -> Result<TlsOptions, Reason> {
        let mut tls = TlsOptions::new().timeout(CONNECT_TIMEOUT);
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(read("authority", ca)?)),
            None => system_authorities(tls),
        };
        if let Some(identity) = self.identity()? {
            tls = tls.identity(identity);
        }
        Ok(tls)
    }

    /// What this node shows, read from its files.
    fn identity(&self) -> Result<Option<Identity>, Reason> {
        let Some((key, cert)) = &self.identity else {
            return Ok(None);
        };
        let (pem, key_pem) = (read("certificate", cert)?, read("private key", key)?);
        self.check_own(cert, &pem)?;
        let is_pair = tls::is_pair(&pem, &key_pem).map_err(|source| IdentityError::Key {
            path: key.clone(),
            source,
        })?;
        if !is_pair {
            let (key, cert) = (key.clone(), cert.clone());
            return Err(IdentityError::KeyMismatch { key, cert }.into());
        }
        Ok(Some(Identity::from_pem(pem, key_pem)))
    }

    /// Refuses a certificate that etcd would refuse, and warns of its end once a day.
    fn check_own(&self, path: &Path, pem: &[u8]) -> Result<(), IdentityError> {
        let ends = tls::fit_for_client(pem).map_err(|fault| IdentityError::Unfit {
            path: path.to_owned(),
            fault: Box::new(fault),
        })?;
        if let Some(ends) = ends.filter(|_| self.warned.is_due()) {
            warn!(
                "certificate {} ends on {}: renew it in time",
                path.display(),
                date(ends)
            );
        }
        Ok(())
    }
}

fn system_authorities(tls: TlsOptions) -> TlsOptions {
    let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut files = file
        .into_iter()
        .chain(SYSTEM_AUTHORITIES.map(PathBuf::from));
    match files.find_map(|path| fs::read(path).ok()) {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls,
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Reason> {
    fs::read(path).map_err(|source| Reason::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The endpoints of a list that is separated by commas. Without a scheme an endpoint has TLS if
/// there is a certificate, as upstream.
fn endpoints(list: &str, has_identity: bool) -> Result<Vec<Endpoint>, EndpointError> {
    let urls = list.split(',').map(str::trim).filter(|url| !url.is_empty());
    let endpoints = urls.map(|given| {
        let (tls, address) = match given.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(EndpointError::Scheme {
                    url: given.to_owned(),
                    scheme: scheme.to_owned(),
                });
            }
            None => (has_identity, given),
        };
        let address = address.trim_end_matches('/');
        let is_part = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
        if address.is_empty() || address.starts_with(':') || !address.chars().all(is_part) {
            // whatever stands before an @ may be a password
            let shown = given.rsplit_once('@').map_or(given, |(_, host)| host);
            return Err(EndpointError::Url(shown.to_owned()));
        }
        let scheme = if tls { "https" } else { "http" };
        Ok(Endpoint {
            url: format!("{scheme}://{address}"),
            tls,
        })
    });
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
    match endpoints.is_empty() {
        true => Err(EndpointError::None),
        false => Ok(endpoints),
    }
}

/// Options that have no effect together with the others, as upstream: it uses TLS only with both a
/// key and a certificate. An https:// endpoint has TLS in any case.
fn unused_options(options: &ConnectionOptions, endpoints: &[Endpoint]) -> Vec<String> {
    let mut warnings = Vec::new();
    let given = |value: &String| !value.is_empty();
    if given(&options.key) != given(&options.cert) {
        warnings.push(
            "-etcd-keyfile and -etcd-certfile need each other: the one that is given is not used"
                .to_owned(),
        );
    }
    let plain: Vec<&str> = endpoints
        .iter()
        .filter(|endpoint| !endpoint.tls)
        .map(|endpoint| endpoint.url.as_str())
        .collect();
    let files = [&options.key, &options.cert, &options.ca];
    if files.into_iter().any(given) && !plain.is_empty() {
        warnings.push(format!(
            "connecting to etcd without TLS: the certificates are not used for {}: write https://",
            plain.join(", ")
        ));
    }
    if given(&options.user) != given(&options.password) {
        warnings.push(
            "-etcd-username and -etcd-password need each other: connecting without a user"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &str, has_identity: bool) -> Result<Vec<String>, String> {
        let endpoints = endpoints(list, has_identity).map_err(|error| error.to_string())?;
        Ok(endpoints.into_iter().map(|endpoint| endpoint.url).collect())
    }

    #[test]
    fn endpoints_are_separated_by_commas() {
        let default = "http://127.0.0.1:4001,http://127.0.0.1:2379";
        assert_eq!(
            urls(default, false).unwrap(),
            ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
        );
        assert_eq!(
            urls("https://[fd00::1]:2379/, etcd.example:2379,", false).unwrap(),
            ["https://[fd00::1]:2379", "http://etcd.example:2379"]
        );
        assert_eq!(urls("a:1", true).unwrap(), ["https://a:1"]);
        assert_eq!(urls("http://a:1", true).unwrap(), ["http://a:1"]);
        let error = urls("http://user:hunter2@a:1", false).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        for (bad, reason) in [
            ("", "names no endpoint"),
            (",", "names no endpoint"),
            ("unix:///run/etcd", "unsupported scheme unix"),
            ("http://", "must be a URL"),
            ("http://:2379", "must be a URL"),
            ("http://a b:1", "must be a URL"),
            ("http://user@a:1", "must be a URL"),
        ] {
            let error = urls(bad, false).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn options_without_effect_are_named() {
        let options = |key: &str, cert: &str, ca: &str, user: &str| ConnectionOptions {
            endpoints: String::new(),
            key: key.into(),
            cert: cert.into(),
            ca: ca.into(),
            user: user.into(),
            password: String::new(),
        };
        let warnings = |options: &ConnectionOptions, list: &str| {
            let has_identity = !options.key.is_empty() && !options.cert.is_empty();
            unused_options(options, &endpoints(list, has_identity).unwrap()).join("\n")
        };
        assert_eq!(warnings(&options("", "", "", ""), "http://a:1"), "");
        assert_eq!(
            warnings(&options("k", "c", "ca", ""), "https://a:1,b:1"),
            ""
        );
        assert_eq!(warnings(&options("", "", "ca", ""), "https://a:1"), "");
        let text = warnings(&options("", "", "ca", ""), "http://a:1");
        assert!(text.contains("without TLS") && text.contains("http://a:1"));
        let text = warnings(&options("k", "", "", "u"), "https://a:1");
        assert!(text.contains("-etcd-certfile") && text.contains("-etcd-password"));
    }
}
