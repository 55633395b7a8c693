//! Exchanges the client below the one that callers hold when a file with credentials changed, and
//! when the API server refuses the credentials or the connection fails.

use super::{
    ClientError,
    source::{Loaded, Source},
};
use crate::{
    pki::date,
    subnet::tls::{self, Daily},
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
    warned: Daily,
}

struct Current {
    client: kube::Client,
    /// PEM.
    certificate: Option<Vec<u8>>,
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
            warned: Daily::default(),
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
            if self.warned.is_due() {
                current.warn(&self.source);
            }
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
                    new.warn(&self.source);
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
        let Loaded {
            config,
            files,
            certificate,
        } = source.load()?;
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let stamps = stamps(&files);
        let fault = || tls::fit_for_client(certificate.as_deref()?).err();
        let client = kube::Client::try_from(config).map_err(|error| match fault() {
            Some(fault) => ClientError::Certificate {
                named_by: source.describe(),
                fault: Box::new(fault),
            },
            None => ClientError::Unusable {
                server: server.clone(),
                named_by: source.describe(),
                source: Box::new(error),
            },
        })?;
        Ok(Current {
            client,
            certificate,
            server,
            files,
            stamps,
            loaded: Instant::now(),
            reported: None,
        })
    }

    fn warn(&self, source: &Source) {
        let certificate = self.certificate.as_deref();
        if let Some(warning) = certificate.and_then(|pem| warning(pem, &source.describe())) {
            warn!("{warning}");
        }
    }
}

/// What is wrong with a client certificate, or that it ends soon. It is no reason to end: the
/// kubelet, or whatever program renews it, may be about to do so, and each request looks at the
/// files.
fn warning(pem: &[u8], named_by: &str) -> Option<String> {
    let certificate = format!("the client certificate of {named_by}");
    match tls::fit_for_client(pem) {
        Ok(None) => None,
        Ok(Some(end)) => Some(format!(
            "{certificate} ends on {}: renew it in time",
            date(end)
        )),
        Err(fault) => Some(format!(
            "{certificate}: {fault}; flanneld uses a renewed one without a restart"
        )),
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
mod tests;
