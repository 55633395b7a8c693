//! `/healthz` and `/readyz`: upstream's bodies; the second tells the truth at each moment.
use crate::daemon::status::Status;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tracing::debug;

/// Connections at one time, and how long one may last: a probe needs neither many nor long.
const CONNECTIONS: usize = 64;
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Binds. The error names the address.
pub async fn listen(ip: &str, port: u16) -> Result<TcpListener, String> {
    let shown = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    TcpListener::bind((ip, port)).await.map_err(|error| {
        format!("cannot serve health at {shown}:{port}: {error}; choose others with -healthz-ip and -healthz-port")
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, status: watch::Receiver<Status>) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let status = status.clone();
                tokio::spawn(async move {
                    if timeout(CONNECTION_LIMIT, connection(stream, status))
                        .await
                        .is_err()
                    {
                        debug!("a connection to the health port took too long");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!("health port: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
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
        .header_read_timeout(CONNECTION_LIMIT)
        .max_buf_size(16 * 1024);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!("health port: {error}");
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
    use crate::daemon::status::Stage;

    #[test]
    fn bodies_and_codes_are_upstreams() {
        let waiting = Status::default();
        let ready = Status {
            stage: Stage::Running { ready: true },
            ..Status::default()
        };
        assert_eq!(answer(&Method::GET, "/healthz", &waiting).status(), 200);
        assert_eq!(answer(&Method::GET, "/readyz", &waiting).status(), 503);
        assert_eq!(answer(&Method::GET, "/readyz", &ready).status(), 200);
        assert_eq!(answer(&Method::GET, "/", &ready).status(), 404);
    }
}
