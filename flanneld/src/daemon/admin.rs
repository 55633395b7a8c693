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
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
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
            ready: true,
            subnets: String::new(),
            peers: 0,
            skipped: 0,
            failing: 0,
            waiting: None,
        });
        assert_eq!(code("/healthz", waiting.clone()).await, 200);
        assert_eq!(code("/readyz", waiting).await, 503);
        assert_eq!(code("/readyz", ready.clone()).await, 200);
        assert_eq!(code("/", ready).await, 404);
    }
}
