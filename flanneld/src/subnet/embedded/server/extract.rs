//! What is read from a request before it is handled.

use super::error::ApiError;
use crate::{
    http_server::PeerCertificate,
    model::{InvalidSubnets, Subnets},
    pki::{Certificate, Identity},
    subnet::embedded::{
        store::Caller,
        wire::{BODY_LIMIT, NETWORK},
    },
};
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{
        FromRequest, FromRequestParts, RawPathParams, Request, rejection::RawPathParamsRejection,
    },
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The subnets that the path names.
pub(super) struct PathSubnets(pub(super) Subnets);

impl<S: Send + Sync> FromRequestParts<S> for PathSubnets {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await?;
        let text = params.iter().find(|(name, _)| *name == "subnets");
        let text = text.map_or("", |(_, text)| text);
        // an IPv6 subnet alone, without the part that stands for no IPv4 subnet
        let subnets = text.parse().or_else(|error| {
            let alone = !text.contains('&') && text.contains(':');
            let whole = alone.then(|| format!("0.0.0.0-0&{text}").parse().ok());
            whole.flatten().ok_or(error)
        });
        let subnets = subnets.map_err(|error: InvalidSubnets| ApiError::bad("subnet", error))?;
        Ok(PathSubnets(subnets))
    }
}

/// Who sent the request: the holder of the connection's certificate.
pub(super) struct Requester(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Requester {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(PeerCertificate(der)) = parts.extensions.get() else {
            return Ok(Requester(Caller::Trusted(None)));
        };
        let certificate = Certificate::parse(der)
            .map_err(|fault| ApiError::new(StatusCode::FORBIDDEN, "certificate", fault))?;
        Ok(Requester(Caller::Certificate(Identity::of(&certificate))))
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
            format!("there is no network {network}, the only network is {NETWORK}"),
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
                format!("no complete body within {BODY_TIMEOUT:?}"),
            )),
        }
    }
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    go_compat::json::from_slice(body)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "body", format!("JSON: {error}")))
}
