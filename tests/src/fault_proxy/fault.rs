//! Faults, and the requests that they are for.

use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicU64, Ordering},
};

/// A request that arrived at the proxy.
#[derive(Clone, Debug)]
pub struct Seen {
    /// GET, PATCH, ...
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query without the question mark, as it was sent.
    pub query: String,
    /// The header accept.
    pub accept: String,
    /// The header content-type.
    pub content_type: String,
    /// The header authorization.
    pub authorization: String,
    /// The body.
    pub body: String,
    status: Arc<AtomicU16>,
    received: Arc<AtomicU64>,
}

impl Seen {
    pub(super) fn new(head: &hyper::http::request::Parts, body: &[u8]) -> Seen {
        let header = |name: &str| {
            let value = head.headers.get(name);
            let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            text.unwrap_or_default()
        };
        Seen {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            accept: header("accept"),
            content_type: header("content-type"),
            authorization: header("authorization"),
            body: String::from_utf8_lossy(body).into_owned(),
            status: Arc::default(),
            received: Arc::default(),
        }
    }

    /// The status of the answer; 0 while there is none.
    pub fn status(&self) -> u16 {
        self.status.load(Ordering::Relaxed)
    }

    /// The bytes of the answer's body that the client was sent so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// True for a watch of the Kubernetes API.
    pub fn is_watch(&self) -> bool {
        let parameters = || self.query.split('&');
        parameters().any(|parameter| parameter == "watch=true" || parameter == "watch=1")
    }

    /// True for a list of nodes that is not a watch.
    pub fn is_node_list(&self) -> bool {
        self.method == "GET" && self.path == "/api/v1/nodes" && !self.is_watch()
    }

    /// True for a watch of nodes.
    pub fn is_node_watch(&self) -> bool {
        self.path == "/api/v1/nodes" && self.is_watch()
    }

    /// True for a PATCH.
    pub fn is_patch(&self) -> bool {
        self.method == "PATCH"
    }
}

/// What happens to a request instead of, or to, its answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The proxy answers, and the API server does not see the request.
    Answer {
        /// The status.
        status: u16,
        /// Headers in addition to content-length.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// No answer, while the connection stays open.
    Stall,
    /// The connection ends without an answer.
    Drop,
    /// The body arrives at this rate.
    Drip {
        /// Bytes a second, at least 10.
        bytes_per_second: usize,
    },
    /// The connection ends after this many bytes of the body, within a chunk.
    CutAfter(usize),
    /// The body ends after this many bytes, as if it were complete.
    EndAfter(usize),
}

impl Fault {
    /// An error of the Kubernetes API.
    pub fn status(status: u16, reason: &str, message: &str) -> Fault {
        let object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": status,
        });
        Fault::json(status, object.to_string())
    }

    /// 410: the resource version of a list or watch is too old.
    pub fn gone() -> Fault {
        Fault::status(410, "Expired", "too old resource version: 1 (2)")
    }

    /// The same within a watch: status 200 and an event of type ERROR.
    pub fn expired_event() -> Fault {
        let object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
        });
        Fault::json(
            200,
            format!("{}\n", json!({"type": "ERROR", "object": object})),
        )
    }

    /// 429 with Retry-After.
    pub fn too_many_requests(retry_after_seconds: u32) -> Fault {
        let message =
            "the server has received too many requests and has asked us to try again later";
        let mut fault = Fault::status(429, "TooManyRequests", message);
        if let Fault::Answer { headers, .. } = &mut fault {
            headers.push(("retry-after", retry_after_seconds.to_string()));
        }
        fault
    }

    /// 500.
    pub fn internal_error() -> Fault {
        Fault::status(
            500,
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        )
    }

    /// 401: the token is not valid, or not any more.
    pub fn unauthorized() -> Fault {
        Fault::status(401, "Unauthorized", "Unauthorized")
    }

    /// 403 as RBAC answers it.
    pub fn forbidden(message: &str) -> Fault {
        Fault::status(403, "Forbidden", message)
    }

    /// A page of HTML, as a load balancer or a portal answers it.
    pub fn html(status: u16) -> Fault {
        Fault::Answer {
            status,
            headers: vec![("content-type", "text/html".to_owned())],
            body: "<html><body><h1>Please sign in</h1></body></html>\n".to_owned(),
        }
    }

    fn json(status: u16, body: String) -> Fault {
        Fault::Answer {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }
}

/// A fault with the requests that it is for.
pub(super) struct Rule {
    pub(super) number: usize,
    pub(super) applies: Box<dyn Fn(&Seen) -> bool + Send>,
    /// How many requests it is still for; `None` without a limit.
    pub(super) left: Option<usize>,
    pub(super) fault: Fault,
}

/// How a stream that runs is ended within its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The connection ends within a chunk.
    Cut,
    /// The body ends as if it were complete.
    End,
}
