//! The admin endpoint: /healthz and /readyz with upstream's bodies. Unlike upstream's, /readyz
//! follows the status at each moment.
use crate::daemon::status::Status;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::debug;

const MAX_CONNECTIONS: usize = 64;
/// A probe is over long before.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after an accept that failed: the process is out of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve health at {address}: {source}; choose others with -healthz-ip and -healthz-port"
)]
pub(super) struct Error {
    address: String,
    source: io::Error,
}

pub(super) async fn listen(ip: &str, port: u16) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind((ip, port)).await;
    bound.map_err(|source| Error {
        address: match ip.contains(':') {
            true => format!("[{ip}]:{port}"),
            false => format!("{ip}:{port}"),
        },
        source,
    })
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, status: watch::Receiver<Status>) {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = limit.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let status = status.clone();
                tokio::spawn(async move {
                    if timeout(CONNECTION_TIMEOUT, connection(stream, status))
                        .await
                        .is_err()
                    {
                        debug!(
                            "admin endpoint: a connection lasted longer than {CONNECTION_TIMEOUT:?}"
                        );
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                debug!("admin endpoint: {error}");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, status: watch::Receiver<Status>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &status.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .max_buf_size(16 * 1024);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!("admin endpoint: {error}");
    }
}

fn answer(method: &Method, path: &str, status: &Status) -> Response<Full<Bytes>> {
    let (code, body) = match path {
        "/healthz" => (StatusCode::OK, "flanneld is running"),
        "/readyz" if status.is_ready() => (StatusCode::OK, "flanneld is ready"),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "flanneld is not ready yet"),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let body = if *method == Method::HEAD { "" } else { body };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::Summary;

    #[test]
    fn codes_follow_the_status() {
        let waiting = Status::default();
        let ready = Status::Running(Summary {
            ready: true,
            subnets: String::new(),
            peers: 0,
            skipped: 0,
            failing: 0,
        });
        assert_eq!(answer(&Method::GET, "/healthz", &waiting).status(), 200);
        assert_eq!(answer(&Method::GET, "/readyz", &waiting).status(), 503);
        assert_eq!(answer(&Method::GET, "/readyz", &ready).status(), 200);
        assert_eq!(answer(&Method::GET, "/", &ready).status(), 404);
    }
}
