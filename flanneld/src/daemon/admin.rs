//! The admin endpoint: /healthz and /readyz with upstream's bodies. Unlike upstream's, /readyz
//! follows the status at each moment; /readyz?verbose adds it as a line of text.

use crate::{
    daemon::status::Status,
    http_server::{self, Limits},
};
use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::any,
};
use std::{io, time::Duration};
use tokio::{net::TcpListener, sync::watch};

/// A probe is over long before.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits {
    connections: 64,
    head_timeout: PROBE_TIMEOUT,
    stall_timeout: PROBE_TIMEOUT,
};

/// The endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve /healthz and /readyz at {address}: {source}; set another address with -healthz-ip and -healthz-port"
)]
pub(super) struct Error {
    address: String,
    source: io::Error,
}

/// Binds the address; an IPv6 address may stand in brackets. No address means every one.
pub(super) async fn listen(ip: &str, port: u16) -> Result<TcpListener, Error> {
    let brackets = |ip: &str| Some(ip.strip_prefix('[')?.strip_suffix(']')?.to_owned());
    let ip = brackets(ip).unwrap_or_else(|| ip.to_owned());
    let bound = match ip.is_empty() {
        // a kernel without IPv6 has 0.0.0.0 only
        true => match TcpListener::bind(("::", port)).await {
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
            bound => bound,
        },
        false => TcpListener::bind((ip.as_str(), port)).await,
    };
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
    http_server::serve(listener, None, LIMITS, router(status)).await;
}

fn router(status: watch::Receiver<Status>) -> Router {
    Router::new()
        .route("/healthz", any(|| async { "flanneld is running" }))
        .route("/readyz", any(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(status)
}

async fn readyz(
    State(status): State<watch::Receiver<Status>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, String) {
    let status = status.borrow();
    let (code, body) = if status.is_ready() {
        (StatusCode::OK, "flanneld is ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "flanneld is not ready yet")
    };
    let verbose = query.is_some_and(|query| query.split('&').any(|key| key == "verbose"));
    let body = match verbose {
        true => format!("{body}\n{}\n", *status),
        false => body.to_owned(),
    };
    (code, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::Summary;
    use axum::{body::Body, http::Request};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use std::{net::SocketAddr, time::Instant};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::{interval, sleep, timeout},
    };

    /// The endpoint on loopback, in the background.
    async fn start() -> (SocketAddr, JoinHandle<()>) {
        crate::open_files::raise_limit();
        let listener = listen("[::1]", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, status) = watch::channel(Status::default());
        (address, tokio::spawn(serve(listener, status)))
    }

    /// How long /healthz takes.
    async fn probe(address: SocketAddr) -> Duration {
        let start = Instant::now();
        let answer = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(PROBE_TIMEOUT, answer).await.expect("no answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        start.elapsed()
    }

    async fn median_probe(address: SocketAddr) -> Duration {
        let mut times = Vec::new();
        for _ in 0..15 {
            times.push(probe(address).await);
        }
        times.sort();
        times[7]
    }

    #[tokio::test]
    async fn idle_connections_keep_no_probe_out() {
        let (address, _server) = start().await;
        let mut idle = Vec::new();
        for _ in 0..1000 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let median = median_probe(address).await;
        assert!(median < Duration::from_millis(100), "{median:?}");
    }

    #[tokio::test]
    async fn new_connections_keep_no_probe_out() {
        let (address, _server) = start().await;
        let flood = tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(4));
            let mut idle = Vec::new();
            loop {
                tick.tick().await;
                idle.push(TcpStream::connect(address).await.unwrap());
            }
        });
        sleep(Duration::from_millis(500)).await;
        let median = median_probe(address).await;
        assert!(median < Duration::from_millis(100), "{median:?}");
        flood.abort();
    }

    #[tokio::test]
    async fn endpoint_is_where_it_is_told() {
        for (ip, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("::1", "[::1]"),
            ("[::1]", "[::1]"),
            ("", "[::]"),
        ] {
            let bound = listen(ip, 0).await.unwrap().local_addr().unwrap();
            assert_eq!(bound.to_string(), format!("{expected}:{}", bound.port()));
        }
        let refused = listen("192.0.2.1", 1).await.unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1:1"), "{refused}");
        assert!(refused.contains("-healthz-ip"), "{refused}");
    }

    async fn code(path: &str, status: Status) -> u16 {
        let (_sender, status) = watch::channel(status);
        let request = Request::get(path).body(Body::empty()).unwrap();
        let service = TowerToHyperService::new(router(status));
        service.call(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn codes_follow_the_status() {
        let waiting = Status::default();
        let ready = Status::Running(Summary {
            set_up: true,
            ready: true,
            ..Summary::default()
        });
        assert_eq!(code("/healthz", waiting.clone()).await, 200);
        assert_eq!(code("/readyz", waiting).await, 503);
        assert_eq!(code("/readyz", ready.clone()).await, 200);
        assert_eq!(code("/", ready).await, 404);
    }
}
