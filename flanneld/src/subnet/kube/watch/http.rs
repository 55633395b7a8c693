//! Requests for nodes over the client of crate `kube`, which knows the server's address,
//! certificates and credentials. Answers are read as they arrive.

use super::{error::Failure, request::Request};
use crate::subnet::kube::protobuf::{DecodeError, MEDIA_TYPE, Status};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER},
};
use kube::client::Body;
use std::time::Duration;
use tokio::time::timeout;

/// How much of the body of an error is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// An answer whose body is being read.
pub(super) struct Answer {
    request: Request,
    /// For messages.
    pub(super) path: String,
    body: Body,
}

/// Sends a request and waits for the head of the answer.
pub(super) async fn get(
    client: &kube::Client,
    request: Request,
    watch: Duration,
    longest: Duration,
) -> Result<Answer, Failure> {
    let path = request.path(watch);
    let http = hyper::Request::get(&path)
        .header(ACCEPT, MEDIA_TYPE)
        .body(Body::empty())
        .map_err(|error| failed(&request, kube::Error::HttpError(error)))?;
    let answer = async {
        let answer = client.send(http).await;
        let answer = answer.map_err(|error| failed(&request, error))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(refused(&request, &path, answer).await),
        }
    };
    let answer = timeout(longest, answer).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(Failure::NoAnswer {
            path: path.clone(),
            timeout: longest,
        })
    })?;
    let found = header(answer.headers(), CONTENT_TYPE);
    if !found.starts_with(MEDIA_TYPE) {
        return Err(Failure::ContentType {
            path,
            found: found.to_owned(),
        });
    }
    Ok(Answer {
        request,
        path,
        body: answer.into_body(),
    })
}

impl Answer {
    /// The next bytes of the body; None at its end. May be dropped and asked again.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| failed(&self.request, error))?;
            // other frames are trailers
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(super) fn undecodable(&self, error: DecodeError) -> Failure {
        Failure::Decode {
            path: self.path.clone(),
            error,
        }
    }

    /// What the server's report of an error means.
    pub(super) fn reported(&self, status: Status) -> Failure {
        Failure::of_status(self.request.access(), status, None)
    }
}

fn failed(request: &Request, error: kube::Error) -> Failure {
    Failure::Api {
        request: request.access(),
        error: Box::new(error),
        retry_after: None,
    }
}

/// What an answer that is an error means.
async fn refused(request: &Request, path: &str, answer: Response<Body>) -> Failure {
    let code = answer.status();
    let content_type = header(answer.headers(), CONTENT_TYPE).to_owned();
    if [
        StatusCode::NOT_ACCEPTABLE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
    ]
    .contains(&code)
    {
        return Failure::ContentType {
            path: path.to_owned(),
            found: format!("{code}, {content_type}"),
        };
    }
    let retry_after = header(answer.headers(), RETRY_AFTER).parse().ok();
    let body = Limited::new(answer.into_body(), LONGEST_ERROR)
        .collect()
        .await;
    let status = body.ok().and_then(|body| Status::of_body(body.to_bytes()));
    let status = Status {
        // a proxy's page says nothing else that is worth showing
        code: code.as_u16(),
        ..status.unwrap_or_else(|| Status {
            reason: code.canonical_reason().unwrap_or_default().to_owned(),
            message: format!("the answer is {content_type:?}: it may be that of a proxy"),
            ..Status::default()
        })
    };
    Failure::of_status(
        request.access(),
        status,
        retry_after.map(Duration::from_secs),
    )
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    let value = headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
