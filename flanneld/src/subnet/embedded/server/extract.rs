//! What is read from a request before it is handled, and errors as answers.
use super::BODY_TIMEOUT;
use crate::{
    model::{InvalidSubnets, Subnets},
    subnet::{
        alloc,
        embedded::{
            store::StoreError,
            wire::{BODY_LIMIT, NETWORK, json},
        },
    },
};
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{
        FromRequest, FromRequestParts, RawPathParams, Request, rejection::RawPathParamsRejection,
    },
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, HeaderValue},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

pub(super) const JSON: &str = "application/json; charset=utf-8";

/// The subnets that the path names.
pub(super) struct PathSubnets(pub(super) Subnets);

impl<S: Send + Sync> FromRequestParts<S> for PathSubnets {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await?;
        let text = params.iter().find(|(name, _)| *name == "subnets");
        let subnets = text.map_or("", |(_, text)| text).parse();
        let subnets = subnets.map_err(|error: InvalidSubnets| ApiError::bad("subnet", error))?;
        Ok(PathSubnets(subnets))
    }
}

/// A middleware for the paths that name a network.
pub(super) async fn known_network(
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let params = params?;
    let network = params.iter().find(|(name, _)| *name == "network");
    let network = network.map_or("", |(_, network)| network);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if network == NETWORK {
        Ok(next.run(request).await)
    } else if network.is_empty() || network.len() > 63 || !network.bytes().all(is_name) {
        Err(ApiError::network_name())
    } else {
        Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "network",
            format!("there is no network {network} here, only the default one: {NETWORK}"),
        ))
    }
}

/// The whole body, of bounded length and within bounded time.
pub(super) struct RequestBody(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for RequestBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let too_large = || {
            let error = format!("the body is larger than {BODY_LIMIT} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body", error)
        };
        let body: Body = request.into_body();
        if body.size_hint().lower() > BODY_LIMIT as u64 {
            return Err(too_large());
        }
        match timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await {
            Ok(Ok(body)) => Ok(RequestBody(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(ApiError::bad("body", error)),
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body",
                format!("no whole body within {BODY_TIMEOUT:?}"),
            )),
        }
    }
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    go_compat::json::from_slice(body)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "body", format!("JSON: {error}")))
}

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
            StoreError::HeldBy(..) => (StatusCode::CONFLICT, "held"),
            StoreError::Alloc(alloc::Error::OutOfSubnets { .. }) => {
                (StatusCode::CONFLICT, "out-of-subnets")
            }
            StoreError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            StoreError::MissingAddress(_)
            | StoreError::UnusableAddress { .. }
            | StoreError::AlreadyReserved { .. }
            | StoreError::Alloc(_) => (StatusCode::BAD_REQUEST, "invalid"),
            StoreError::InUse(_) | StoreError::Corrupt { .. } | StoreError::File { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "store")
            }
        };
        let mut refused = ApiError::new(status, code, &error);
        if let StoreError::Alloc(alloc::Error::OutOfSubnets { min, max }) = error {
            (refused.body.min, refused.body.max) = (Some(min), Some(max));
        }
        refused
    }
}
