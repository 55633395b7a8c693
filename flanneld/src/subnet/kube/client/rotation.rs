//! Exchanges the client below the one that callers hold when a file with credentials changed, and
//! when the API server refuses the credentials or the connection fails.

use super::{
    ClientError,
    source::{Loaded, Source},
};
use hyper::{Request, Response, StatusCode};
use kube::client::Body;
use std::{
    fs,
    future::Future,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use tower_service::Service;
use tracing::{info, warn};

/// How often the files are read again after a refusal, at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// A service that sends each request with the latest credentials. Requests in progress keep theirs.
#[derive(Clone)]
pub(super) struct Rotation(Arc<Shared>);

struct Shared {
    source: Source,
    current: Mutex<Current>,
    /// The API server refused the credentials, or the connection failed.
    doubted: AtomicBool,
}

struct Current {
    client: kube::Client,
    server: String,
    files: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    loaded: Instant,
    reported: Option<String>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Rotation {
    pub(super) fn new(source: Source) -> Result<Rotation, ClientError> {
        let current = Current::load(&source)?;
        Ok(Rotation(Arc::new(Shared {
            source,
            current: Mutex::new(current),
            doubted: AtomicBool::new(false),
        })))
    }

    /// The API server's URL.
    pub(super) fn server(&self) -> String {
        self.0.lock().server.clone()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client with the latest credentials. If they cannot be read, the one in use stays.
    /// Requests are rare: each looks at the files.
    fn client(&self) -> kube::Client {
        let mut current = self.lock();
        let may_reload = current.loaded.elapsed() >= RELOAD_INTERVAL;
        let doubted = may_reload && self.doubted.swap(false, Ordering::Relaxed);
        let stamps = stamps(&current.files);
        let changed = stamps != current.stamps;
        if !changed && !doubted {
            return current.client.clone();
        }
        current.loaded = Instant::now();
        match Current::load(&self.source) {
            Ok(new) => {
                if changed {
                    info!(
                        "{} changed: its credentials are in use",
                        self.source.describe()
                    );
                }
                *current = new;
            }
            Err(error) => {
                let error = error.to_string();
                if current.reported.as_ref() != Some(&error) {
                    warn!("{error}; flanneld goes on with what it read before");
                    current.reported = Some(error);
                }
                current.stamps = stamps;
            }
        }
        current.client.clone()
    }
}

impl Current {
    fn load(source: &Source) -> Result<Current, ClientError> {
        let Loaded { config, files } = source.load()?;
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let stamps = stamps(&files);
        let client = kube::Client::try_from(config).map_err(|error| ClientError::Unusable {
            server: server.clone(),
            named_by: source.describe(),
            source: Box::new(error),
        })?;
        Ok(Current {
            client,
            server,
            files,
            stamps,
            loaded: Instant::now(),
            reported: None,
        })
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: file.ino(),
            length: file.len(),
            modified: file.modified().ok(),
        })
    };
    files.iter().map(stamp).collect()
}

impl Service<Request<Body>> for Rotation {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, kube::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let answer = shared.client().send(request).await;
            let refused = match &answer {
                Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
                Err(_) => true,
            };
            if refused {
                shared.doubted.store(true, Ordering::Relaxed);
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{path::Path, sync::mpsc};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A server that takes every token but "refused", and the tokens that it saw.
    async fn server() -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, tokens) = mpsc::channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let token = request.lines().find_map(|line| {
                    let (name, value) = line.split_once(": Bearer ")?;
                    name.eq_ignore_ascii_case("authorization").then_some(value)
                });
                let token = token.unwrap_or_default().to_owned();
                let status = match token.as_str() {
                    "refused" => "401 Unauthorized",
                    _ => "200 OK",
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.ok();
                sender.send(token).ok();
            }
        });
        (url, tokens)
    }

    fn kubeconfig(server: &str, more: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{server}'{more}}}}}]\n\
             users: [{{name: u, user: {{tokenFile: token}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        )
    }

    /// Replaces a file as kubelet and careful programs do.
    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    async fn status(rotation: &mut Rotation) -> u16 {
        let request = Request::get("/version").body(Body::empty()).unwrap();
        rotation.call(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn credentials_are_those_of_the_files_at_each_request() {
        let (url, tokens) = server().await;
        let dir = tempfile::tempdir().unwrap();
        let (path, token) = (dir.path().join("config"), dir.path().join("token"));
        fs::write(&path, kubeconfig(&url, "")).unwrap();
        fs::write(&token, "first\n").unwrap();
        let mut rotation = Rotation::new(Source::Kubeconfig {
            path: path.clone(),
            server: None,
        })
        .unwrap();
        assert_eq!(rotation.server(), url);
        assert_eq!(status(&mut rotation).await, 200);
        assert_eq!(tokens.recv().unwrap(), "first");
        replace(&token, "second");
        assert_eq!(status(&mut rotation).await, 200);
        assert_eq!(tokens.recv().unwrap(), "second");
        // what cannot be read leaves what was read before
        replace(&path, "clusters: 7");
        assert_eq!(status(&mut rotation).await, 200);
        assert_eq!(tokens.recv().unwrap(), "second");
        replace(&path, &kubeconfig(&url, ""));
        replace(&token, "refused");
        assert_eq!(status(&mut rotation).await, 401);
        assert_eq!(tokens.recv().unwrap(), "refused");
        replace(&token, "third");
        assert_eq!(status(&mut rotation).await, 200);
        assert_eq!(tokens.recv().unwrap(), "third");
    }

    #[tokio::test]
    async fn refusal_reads_the_files_again_even_if_they_look_the_same() {
        let (url, tokens) = server().await;
        let dir = tempfile::tempdir().unwrap();
        let (path, token) = (dir.path().join("config"), dir.path().join("token"));
        fs::write(&path, kubeconfig(&url, "")).unwrap();
        fs::write(&token, "refused").unwrap();
        let mut rotation = Rotation::new(Source::Kubeconfig { path, server: None }).unwrap();
        assert_eq!(status(&mut rotation).await, 401);
        fs::write(&token, "renewed").unwrap();
        let files = rotation.0.lock().files.clone();
        rotation.0.lock().stamps = stamps(&files);
        rotation.0.lock().loaded -= RELOAD_INTERVAL;
        assert_eq!(status(&mut rotation).await, 200);
        assert_eq!(tokens.iter().take(2).last().unwrap(), "renewed");
    }

    #[tokio::test]
    async fn proxy_of_the_kubeconfig_is_used() {
        let (url, tokens) = server().await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(dir.path().join("token"), "first").unwrap();
        // the proxy is asked for a tunnel and answers with no token seen
        let more = format!(", proxy-url: '{url}'");
        fs::write(&path, kubeconfig("http://api.invalid:6443", &more)).unwrap();
        let mut rotation = Rotation::new(Source::Kubeconfig { path, server: None }).unwrap();
        let request = Request::get("/version").body(Body::empty()).unwrap();
        drop(rotation.call(request).await);
        assert!(tokens.recv().is_ok());
    }
}
