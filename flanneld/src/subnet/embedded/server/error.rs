//! Errors of the lease API, as answers.

use crate::subnet::{
    alloc,
    embedded::{store::StoreError, wire::json},
};
use axum::{
    extract::rejection::RawPathParamsRejection,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, HeaderValue},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

pub(super) const JSON: &str = "application/json; charset=utf-8";

/// The answer to a request that is refused.
pub(super) struct ApiError {
    status: StatusCode,
    allow: Option<&'static str>,
    body: ErrorBody,
}

#[derive(Serialize)]
struct ErrorBody {
    code: &'static str,
    error: String,
    /// The range of subnets, where all are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, error: impl ToString) -> ApiError {
        ApiError {
            status,
            allow: None,
            body: ErrorBody {
                code,
                error: error.to_string(),
                max: None,
                min: None,
            },
        }
    }

    /// A part of the request cannot be used.
    pub(super) fn bad(part: &'static str, error: impl ToString) -> ApiError {
        let error = format!("{part}: {}", error.to_string());
        ApiError::new(StatusCode::BAD_REQUEST, part, error)
    }

    pub(super) fn network_name() -> ApiError {
        ApiError::bad(
            "network",
            "a name has 1 to 63 letters, digits, '-', '_' or '.'",
        )
    }

    /// Another method than these, separated by ", ".
    pub(super) fn method(methods: &'static str) -> ApiError {
        let error = format!("use {}", methods.replace(", ", " or "));
        ApiError {
            allow: Some(methods),
            ..ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", error)
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(CONTENT_TYPE, JSON)], json(&self.body)).into_response();
        if let Some(methods) = self.allow {
            let methods = HeaderValue::from_static(methods);
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    }
}

impl From<RawPathParamsRejection> for ApiError {
    fn from(error: RawPathParamsRejection) -> ApiError {
        ApiError::bad("path", error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let (status, code) = match &error {
            StoreError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            StoreError::Revoked(_) => (StatusCode::GONE, "revoked"),
            StoreError::Denied(_) => (StatusCode::FORBIDDEN, "forbidden"),
            StoreError::HeldBy(..) => (StatusCode::CONFLICT, "held"),
            StoreError::NodeRuns(_) | StoreError::CertificateRuns(_) => {
                (StatusCode::CONFLICT, "node-runs")
            }
            StoreError::Alloc(alloc::Error::OutOfSubnets { .. }) => {
                (StatusCode::CONFLICT, "out-of-subnets")
            }
            StoreError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            StoreError::DiskFull(_) => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
            StoreError::MissingAddress(_)
            | StoreError::UnusableAddress { .. }
            | StoreError::AlreadyReserved { .. }
            | StoreError::Alloc(_) => (StatusCode::BAD_REQUEST, "invalid"),
            StoreError::InUse(_)
            | StoreError::Thread(_)
            | StoreError::Corrupt { .. }
            | StoreError::File { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        let mut refused = ApiError::new(status, code, &error);
        if let StoreError::Alloc(alloc::Error::OutOfSubnets { min, max }) = error {
            (refused.body.min, refused.body.max) = (Some(min), Some(max));
        }
        refused
    }
}
