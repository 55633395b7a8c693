//! The connection to the API server: where it is and who flanneld is there (upstream:
//! client-go's rules for -kube-api-url and -kubeconfig-file), with credentials that are read again
//! when their files change.

mod error;
mod fuzz;
mod rotation;
mod source;

pub(crate) use error::ClientError;
pub(crate) use fuzz::answer as fuzz_answer;
pub(crate) use source::fuzz;

use super::api_error::{self, Request};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, StatusCode, header::CONTENT_TYPE, http};
use kube::{client::Body, core::Status};
use rotation::Rotation;
use serde::Deserialize;
use source::Source;
use std::time::Duration;
use tokio::time::timeout;

/// How long a request other than a watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes: a Node has about 14,000.
const LONGEST_ANSWER: usize = 4 << 20;

/// A client of the API server.
#[derive(Clone)]
pub(crate) struct Client {
    inner: kube::Client,
    server: String,
}

impl Client {
    /// By `-kube-api-url` and `-kubeconfig-file`, each of which may be empty. Connects later.
    pub(crate) fn new(api_url: &str, kubeconfig: &str) -> Result<Client, ClientError> {
        let source = Source::find(api_url, kubeconfig, |name| std::env::var(name).ok())?;
        let rotation = Rotation::new(source)?;
        Ok(Client {
            server: rotation.server(),
            inner: kube::Client::new(rotation, "default"),
        })
    }

    /// For the watch: credentials are exchanged below it.
    pub(crate) fn inner(&self) -> kube::Client {
        self.inner.clone()
    }

    /// The API server's URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The pod's JSON.
    pub(super) async fn get_pod(&self, namespace: &str, name: &str) -> Result<Vec<u8>, Failure> {
        let request = Request {
            verb: "get",
            resource: "pods",
        };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.call(request, Method::GET, path, None).await
    }

    /// A strategic merge patch of a node's status, as upstream sends it.
    pub(super) async fn patch_node_status(&self, node: &str, body: String) -> Result<(), Failure> {
        let request = Request {
            verb: "patch",
            resource: "nodes/status",
        };
        let path = format!("/api/v1/nodes/{node}/status");
        let answer = self.call(request, Method::PATCH, path, Some(body)).await?;
        // what stands between may answer in the server's place
        match serde_json::from_slice(&answer) {
            Ok(Answer { metadata }) if metadata.name == node => Ok(()),
            Ok(_) => Err(Failure::new(
                request,
                &kube::Error::Service("the answer is not the node".into()),
            )),
            Err(error) => Err(Failure::new(request, &kube::Error::SerdeError(error))),
        }
    }

    async fn call(
        &self,
        request: Request,
        method: Method,
        path: String,
        patch: Option<String>,
    ) -> Result<Vec<u8>, Failure> {
        let mut http = http::Request::builder().method(method).uri(path);
        if patch.is_some() {
            http = http.header(CONTENT_TYPE, "application/strategic-merge-patch+json");
        }
        let body = Body::from(patch.unwrap_or_default().into_bytes());
        let answer = async { self.answer(http.body(body)).await };
        let answer = timeout(REQUEST_TIMEOUT, answer).await;
        answer
            .unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())))
            .map_err(|error| Failure::new(request, &error))
    }

    async fn answer(
        &self,
        request: http::Result<http::Request<Body>>,
    ) -> Result<Vec<u8>, kube::Error> {
        let response = self
            .inner
            .send(request.map_err(kube::Error::HttpError)?)
            .await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map_err(kube::Error::Service)?
            .to_bytes();
        match code.is_success() {
            true => Ok(body.to_vec()),
            false => Err(refusal(code, &body)),
        }
    }
}

/// What an answer that is an error means: a Status, or the page of what stands between.
fn refusal(code: StatusCode, body: &[u8]) -> kube::Error {
    let status = serde_json::from_slice(body).unwrap_or_else(|_| {
        let reason = code.canonical_reason().unwrap_or_default();
        Status::failure(&String::from_utf8_lossy(body), reason)
    });
    kube::Error::Api(Box::new(status.with_code(code.as_u16())))
}

/// What is read of the answer to a patch.
#[derive(Deserialize)]
struct Answer {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    /// How long the server asks to wait.
    pub(super) retry_after: Option<Duration>,
    text: String,
}

impl Failure {
    #[cfg(test)]
    pub(super) fn after(retry_after: Duration) -> Failure {
        Failure {
            retry_after: Some(retry_after),
            text: String::new(),
        }
    }

    fn new(request: Request, error: &kube::Error) -> Failure {
        let details = match error {
            kube::Error::Api(status) => status.details.as_ref(),
            _ => None,
        };
        Failure {
            retry_after: details
                .map(|details| Duration::from_secs(details.retry_after_seconds.into()))
                .filter(|delay| !delay.is_zero()),
            text: api_error::describe(request, error),
        }
    }
}
