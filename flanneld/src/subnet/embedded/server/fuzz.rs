//! The fuzz target of requests to the lease server.

use super::api;
use crate::{
    model::network_config::NetworkConfig,
    subnet::{TTL, embedded::store::Store},
};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use std::{cell::RefCell, env, fs, process, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tower_service::Service;

const CONFIG: &str =
    r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48"}"#;
/// An answer that takes longer waits for a change.
const WAIT: Duration = Duration::from_millis(5);
/// For every other answer: more than the disk needs.
const TIMEOUT: Duration = Duration::from_secs(20);
const LONGEST_ANSWER: usize = 1 << 20;

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// A server with an empty store.
struct Server {
    runtime: Runtime,
    store: Arc<Store>,
    router: Router,
}

impl Server {
    fn new() -> Option<Server> {
        let mut config = NetworkConfig::parse(CONFIG).ok()?;
        config.check_subnets().ok()?;
        let shared = std::path::Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            shared.to_owned()
        } else {
            env::temp_dir()
        };
        let path = folder.join(format!("fuzz-lease-api-{}", process::id()));
        drop(fs::remove_file(&path));
        let store = Store::open_with(&path, config, TTL, TTL).ok()?;
        // the open file is enough
        drop(fs::remove_file(&path));
        let runtime = Builder::new_current_thread().enable_time().build().ok()?;
        let router = api::router(store.clone());
        Some(Server {
            runtime,
            store,
            router,
        })
    }
}

/// Method and path, a line feed, and the body. An error is JSON that says what was wrong.
pub(crate) fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    let (method, path) = head.split_once(' ').unwrap_or(("GET", head));
    let request = Request::builder().method(method).uri(path);
    let Ok(request) = request.body(Body::from(body.to_owned())) else {
        return;
    };
    SERVER.with_borrow_mut(|server| {
        if server.is_none() {
            *server = Server::new();
        }
        assert!(server.is_some(), "a server can be made");
        if let Some(server) = server {
            server.runtime.block_on(answer(&mut server.router, request));
        }
        // each request finds the same store
        let is_changed = |server: &Server| server.store.snapshot().1 > 0;
        if server.as_ref().is_some_and(is_changed) {
            *server = None;
        }
    });
}

async fn answer(router: &mut Router, request: Request<Body>) {
    let asked = format!("{} {}", request.method(), request.uri());
    let query = request.uri().query().unwrap_or_default();
    let waits = request.method() == Method::GET && query.contains("next");
    let wait = if waits { WAIT } else { TIMEOUT };
    let Ok(Ok(answer)) = timeout(wait, router.call(request)).await else {
        assert!(waits, "no answer: {asked}");
        return;
    };
    let status = answer.status();
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{asked}");
    if status.is_success() || asked.starts_with("HEAD ") {
        return;
    }
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect();
    let Ok(Ok(body)) = timeout(TIMEOUT, body).await else {
        return;
    };
    let body = body.to_bytes();
    let error: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_text = |key: &str| error[key].as_str().is_some_and(|text| !text.is_empty());
    let body = String::from_utf8_lossy(&body);
    assert!(
        is_text("code") && is_text("error"),
        "{asked}: {status} {body}"
    );
}
