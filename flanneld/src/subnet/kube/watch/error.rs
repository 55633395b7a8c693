//! Why a request of the watch failed. The next attempt may succeed: the leases stay as they are.

use super::cache::CacheError;
use crate::subnet::kube::{
    api_error,
    protobuf::{DecodeError, MEDIA_TYPE, Status},
};
use std::time::Duration;

/// Why a request failed. The text completes "waiting for the API server: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection, a broken one, or an answer that is an error.
    #[error("{}", api_error::describe(*request, error))]
    Api {
        request: api_error::Request,
        error: Box<kube::Error>,
        retry_after: Option<Duration>,
    },
    /// The answer is not in the encoding that was asked for: a proxy, or another server.
    #[error(
        "{path}: the answer is {found:?}, not {MEDIA_TYPE}, the encoding that kubelets use: a proxy \
         on the way to the API server must pass the Accept header and the body on"
    )]
    ContentType { path: String, found: String },
    /// No answer.
    #[error("{path}: no answer within {timeout:?}")]
    NoAnswer { path: String, timeout: Duration },
    /// The answer does not go on.
    #[error("{path}: nothing whole was received within {timeout:?}")]
    Silent { path: String, timeout: Duration },
    /// The answer does not come to its end.
    #[error("{path}: the answer did not end within {timeout:?}")]
    Slow { path: String, timeout: Duration },
    /// The server ended a watch before its time.
    #[error("the API server ended the watch after {0:.1?}")]
    Ended(Duration),
    /// The answer ended within an event.
    #[error("the watch broke off within an event")]
    Truncated,
    /// The answer cannot be decoded.
    #[error("{path}: {error}")]
    Decode { path: String, error: DecodeError },
    /// The nodes cannot be taken in.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Failure {
    /// The failure that the API server reports.
    pub(super) fn of_status(
        request: api_error::Request,
        status: Status,
        retry_after: Option<Duration>,
    ) -> Failure {
        let error = kube::core::Status::failure(&status.message, &status.reason);
        Failure::Api {
            request,
            error: Box::new(kube::Error::Api(Box::new(error.with_code(status.code)))),
            retry_after,
        }
    }

    /// The status of an answer that is an error.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Failure::Api { error, .. } => api_error::status_code(error),
            _ => None,
        }
    }

    /// The delay that the server asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Api { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
