//! Which API server, and which files prove who flanneld is.

use super::ClientError;
use crate::best_effort::best_effort;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hyper::http::{HeaderValue, Uri, header::USER_AGENT};
use kube::{
    Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The API server takes the first word as the name of the manager of fields, as it does for Go
/// flanneld.
const AGENT: &str = concat!("flanneld/v", env!("CARGO_PKG_VERSION"));

/// What names the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A kubeconfig; `server` replaces the one in it.
    Kubeconfig {
        path: PathBuf,
        server: Option<String>,
    },
    /// A URL without credentials.
    Url(String),
    /// The service account of the pod.
    Pod,
}

/// A configuration of the client, and the files that it was read from.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) files: Vec<PathBuf>,
    /// The certificate that flanneld shows, PEM; None if it shows none.
    pub(super) certificate: Option<Vec<u8>>,
}

impl Source {
    /// The order of client-go: -kubeconfig-file and -kube-api-url, the pod's service account,
    /// KUBERNETES_MASTER; then what kubectl uses.
    pub(super) fn find(
        api_url: &str,
        kubeconfig: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Source, ClientError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let url = Some(api_url.to_owned()).filter(|url| !url.is_empty());
        match (url, kubeconfig.is_empty()) {
            (server, false) => {
                return Ok(Source::Kubeconfig {
                    path: kubeconfig.into(),
                    server,
                });
            }
            (Some(url), true) => return Ok(Source::Url(url)),
            (None, true) => {}
        }
        let service = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
        if service.iter().all(|name| variable(name).is_some()) {
            return Ok(Source::Pod);
        }
        if let Some(url) = variable("KUBERNETES_MASTER") {
            return Ok(Source::Url(url));
        }
        let named = variable("KUBECONFIG").and_then(|paths| {
            let mut paths = std::env::split_paths(&paths)
                .collect::<Vec<_>>()
                .into_iter();
            paths.find(|path| path.exists())
        });
        let home = variable("HOME").map(|home| Path::new(&home).join(".kube/config"));
        match named.or(home.filter(|path| path.exists())) {
            Some(path) => Ok(Source::Kubeconfig { path, server: None }),
            None => Err(ClientError::NoServer),
        }
    }

    /// For errors: what names the certificates.
    pub(super) fn describe(&self) -> String {
        match self {
            Source::Kubeconfig { path, .. } => format!("the kubeconfig {}", path.display()),
            Source::Url(_) => "-kube-api-url".to_owned(),
            Source::Pod => "the pod's service account".to_owned(),
        }
    }

    /// Reads the files.
    pub(super) fn load(&self) -> Result<Loaded, ClientError> {
        let mut loaded = match self {
            Source::Kubeconfig { path, server } => from_kubeconfig(path, server.as_deref())?,
            Source::Url(url) => Loaded {
                config: Config::new(parse_url(url)?),
                files: Vec::new(),
                certificate: None,
            },
            Source::Pod => from_service_account()?,
        };
        loaded.certificate = certificate(&loaded.config.auth_info);
        let config = &mut loaded.config;
        if let Some(path) = config.auth_info.token_file.take() {
            let path = PathBuf::from(path);
            if config.auth_info.token.is_none() {
                config.auth_info.token = Some(read_token(&path)?.into());
            }
            loaded.files.push(path);
        }
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // every caller has its own backoff, which reports what it waits for
        config.default_retry = false;
        config
            .headers
            .push((USER_AGENT, HeaderValue::from_static(AGENT)));
        Ok(loaded)
    }
}

fn from_kubeconfig(path: &Path, server: Option<&str>) -> Result<Loaded, ClientError> {
    let failed = |source| ClientError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let mut kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let mut files = vec![path.to_owned()];
    files.extend(complete(&mut kubeconfig, server)?);
    let options = KubeConfigOptions::default();
    let config = now(Config::from_custom_kubeconfig(kubeconfig, &options));
    let config = config.unwrap_or(Err(kube::config::KubeconfigError::FindPath));
    Ok(Loaded {
        config: config.map_err(failed)?,
        files,
        certificate: None,
    })
}

/// Replaces the server, if another one is given: the files that the kubeconfig names.
fn complete(
    kubeconfig: &mut Kubeconfig,
    server: Option<&str>,
) -> Result<Vec<PathBuf>, ClientError> {
    let mut files = Vec::new();
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        if let Some(server) = server {
            parse_url(server)?;
            cluster.server = Some(server.to_owned());
        }
        files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
    }
    for user in kubeconfig
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref())
    {
        let named = [&user.client_certificate, &user.client_key];
        files.extend(named.into_iter().flatten().map(PathBuf::from));
    }
    Ok(files)
}

fn from_service_account() -> Result<Loaded, ClientError> {
    let mut config =
        Config::incluster().map_err(|error| ClientError::ServiceAccount(Box::new(error)))?;
    // read again with the other files
    let files = config.root_cert_file.take().into_iter().collect();
    Ok(Loaded {
        config,
        files,
        certificate: None,
    })
}

/// The client certificate of a user; data precedes a file. None also if it cannot be read: the
/// client says so.
fn certificate(user: &AuthInfo) -> Option<Vec<u8>> {
    let (data, file) = (&user.client_certificate_data, &user.client_certificate);
    match data {
        Some(data) => best_effort(BASE64.decode(data.trim()), "the client decodes it, too"),
        None => best_effort(fs::read(file.as_ref()?), "the client reads it, too"),
    }
}

fn parse_url(url: &str) -> Result<Uri, ClientError> {
    let invalid = |reason: String| ClientError::Url {
        url: url.to_owned(),
        reason,
    };
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: Uri = with_scheme
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| invalid(error.to_string()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http" | "https"), _) => Err(invalid("it has no host".to_owned())),
        _ => Err(invalid("it is neither http nor https".to_owned())),
    }
}

/// Without the newline that an editor or a Secret may add.
fn read_token(path: &Path) -> Result<String, ClientError> {
    let token = fs::read_to_string(path).map_err(|source| ClientError::Token {
        path: path.to_owned(),
        source,
    })?;
    Ok(token.trim().to_owned())
}

/// The result of a future that is ready at once: reading a kubeconfig is declared asynchronous but
/// waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The fuzz target of a kubeconfig, and of a URL: a server is one that can be asked.
pub(crate) fn fuzz(text: &str) {
    if let Ok(uri) = parse_url(text) {
        let host = uri.host().unwrap_or_default();
        assert!(!host.is_empty(), "{text}");
    }
    for server in [None, Some("https://10.0.0.1:6443"), Some(text)] {
        if let Ok(mut kubeconfig) = Kubeconfig::from_yaml(text) {
            drop(complete(&mut kubeconfig, server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn find(url: &str, kubeconfig: &str, variables: &[(&str, &str)]) -> Result<Source, String> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        Source::find(url, kubeconfig, variable).map_err(|error| error.to_string())
    }

    const POD: [(&str, &str); 2] = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];

    #[test]
    fn flags_come_before_the_pod_and_the_pod_before_variables() {
        let kubeconfig = |server: Option<&str>| Source::Kubeconfig {
            path: "/etc/k".into(),
            server: server.map(str::to_owned),
        };
        assert_eq!(find("", "/etc/k", &POD), Ok(kubeconfig(None)));
        assert_eq!(
            find("http://a:1", "/etc/k", &POD),
            Ok(kubeconfig(Some("http://a:1")))
        );
        assert_eq!(
            find("http://a:1", "", &POD),
            Ok(Source::Url("http://a:1".into()))
        );
        assert_eq!(find("", "", &POD), Ok(Source::Pod));
        let master = ("KUBERNETES_MASTER", "http://m:1");
        assert_eq!(
            find("", "", &[master]),
            Ok(Source::Url("http://m:1".into()))
        );
        assert_eq!(find("", "", &[POD[0], POD[1], master]), Ok(Source::Pod));
        let error = find("", "", &[("HOME", "/nowhere")]).unwrap_err();
        assert!(error.contains("-kubeconfig-file"), "{error}");
    }

    #[test]
    fn kubeconfig_without_a_server_takes_the_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(dir.path().join("token"), "secret\n").unwrap();
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: c, cluster: {}}]\n\
             users: [{name: u, user: {tokenFile: token}}]\n\
             contexts: [{name: c, context: {cluster: c, user: u}}]\n",
        )
        .unwrap();
        let source = Source::Kubeconfig {
            path: path.clone(),
            server: Some("https://10.0.0.1:6443".into()),
        };
        let loaded = source.load().unwrap();
        assert_eq!(
            loaded.config.cluster_url.to_string(),
            "https://10.0.0.1:6443/"
        );
        assert_eq!(loaded.files, [path.clone(), dir.path().join("token")]);
        assert!(loaded.config.auth_info.token.is_some());
        let source = Source::Kubeconfig {
            path,
            server: Some("ftp://10.0.0.1".into()),
        };
        let error = source.load().err().unwrap().to_string();
        assert!(error.contains("-kube-api-url"), "{error}");
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let load = || {
            let source = Source::Kubeconfig {
                path: path.clone(),
                server: None,
            };
            source.load().err().unwrap().to_string()
        };
        assert!(load().contains(path.to_str().unwrap()));
        for bad in ["", "{", "clusters: 7", "current-context: c"] {
            fs::write(&path, bad).unwrap();
            let error = load();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("-kubeconfig-file"), "{error}");
        }
    }

    #[test]
    fn url_has_scheme_and_host() {
        assert_eq!(
            parse_url("127.0.0.1:8080").unwrap().to_string(),
            "http://127.0.0.1:8080/"
        );
        for bad in ["", "https://", "ftp://a", "http://a b", "https:///x"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
