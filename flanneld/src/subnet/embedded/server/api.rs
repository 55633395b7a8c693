//! Requests and answers: paths, methods, what is read from a body, and errors as `{"error": "...", "code": "..."}`.
use super::{
    PATIENCE,
    body::{self, AnyBody},
    watch,
};
use crate::{
    model::Subnets,
    model::lease::{self, Lease, LeaseAttrs},
    subnet::{
        self,
        alloc::Reservation,
        embedded::{
            store::{Store, StoreError},
            wire::{self, Acquire, BODY_LIMIT, NETWORK, ReservationJson},
        },
    },
};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{collections::BTreeMap, convert::Infallible, fmt::Display, sync::Arc};
use tokio::{sync::Notify, time::timeout};

/// What goes wrong with a request.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    error: String,
    /// first and last subnet, or the methods that are allowed
    detail: Option<(String, String)>,
}

type Answer = Result<Response<AnyBody>, Refusal>;

/// Answers one request; whatever goes wrong is an answer too.
pub async fn answer(
    request: Request<Incoming>,
    store: Arc<Store>,
    stalled: Arc<Notify>,
) -> Result<Response<AnyBody>, Infallible> {
    let refused = |refusal: Refusal| refusal.into_response();
    Ok(route(request, store, stalled).await.unwrap_or_else(refused))
}

async fn route(request: Request<Incoming>, store: Arc<Store>, stalled: Arc<Notify>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let query = Query::parse(request.uri().query().unwrap_or(""))?;
    let method = request.method().clone();
    match parts[..] {
        ["v1"] | ["v1", ""] => {
            allow(&method, &[Method::GET])?;
            let networks = json!({"events": null, "snapshot": [NETWORK], "cursor": "0"});
            Ok(text(networks.to_string()))
        }
        ["v1", network, "config"] => {
            known(network)?;
            allow(&method, &[Method::GET])?;
            Ok(text(store.config().raw.clone()))
        }
        ["v1", network, "leases"] => {
            known(network)?;
            allow(&method, &[Method::GET, Method::POST])?;
            if method == Method::POST {
                acquire(store, read_body(request).await?).await
            } else {
                leases(store, query, stalled).await
            }
        }
        ["v1", network, "leases", subnet] => {
            known(network)?;
            allow(&method, &[Method::GET, Method::PUT, Method::DELETE])?;
            let key = subnet_key(subnet)?;
            match method {
                Method::PUT => renew(store, key, read_body(request).await?).await,
                Method::DELETE => {
                    change(move || store.revoke(key)).await?;
                    Ok(text(String::new()))
                }
                _ => one(&store, key, query).await,
            }
        }
        ["v1", network, "reservations"] => {
            known(network)?;
            allow(&method, &[Method::GET, Method::POST])?;
            if method == Method::POST {
                reserve(store, read_body(request).await?).await
            } else {
                Ok(json_answer(&reservations(&store)))
            }
        }
        ["v1", network, "reservations", subnet] => {
            known(network)?;
            allow(&method, &[Method::DELETE])?;
            let key = subnet_key(subnet)?;
            change(move || store.unreserve(key)).await?;
            Ok(text(String::new()))
        }
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "path",
            "there is nothing here: see /v1/_/config, /v1/_/leases and /v1/_/reservations",
        )),
    }
}

async fn leases(store: Arc<Store>, query: Query, stalled: Arc<Notify>) -> Answer {
    let (writer, body) = body::pieces(stalled);
    if query.watch {
        // a cursor counts only for the store that gave it
        let cursor = query
            .next
            .filter(|_| query.store.as_deref() == Some(store.id()));
        tokio::spawn(watch::stream(store, cursor, writer));
        return Ok(response(StatusCode::OK, "application/x-ndjson", body));
    }
    if let Some(seen) = query.next {
        watch::newer(&store, seen).await;
    }
    tokio::spawn(async move { watch::list(&store, writer).await });
    Ok(response(StatusCode::OK, JSON, body))
}

async fn one(store: &Store, key: Subnets, query: Query) -> Answer {
    if let Some(seen) = query.next {
        watch::newer(store, seen).await;
    }
    match store.lease(&key) {
        (Some(lease), revision) => Ok(text(format!(
            r#"{{"events":null,"snapshot":[{}],"cursor":"{revision}"}}"#,
            wire::json(&lease)
        ))),
        (None, _) => Err(StoreError::Unknown(key).into()),
    }
}

async fn acquire(store: Arc<Store>, body: Bytes) -> Answer {
    let attrs: LeaseAttrs = decode(&body)?;
    let Acquire { previous, formerly } = decode(&body)?;
    let previous = match previous.filter(|key| !key.is_empty()) {
        Some(key) => key.parse().map_err(|error| bad("Previous", error))?,
        None => Subnets::default(),
    };
    let lease = change(move || store.acquire(attrs, previous, formerly)).await?;
    Ok(json_answer(&lease))
}

/// The body is the lease, as in the old API, or empty.
async fn renew(store: Arc<Store>, key: Subnets, body: Bytes) -> Answer {
    let attrs = if body.is_empty() {
        None
    } else {
        let lease: Lease = decode(&body)?;
        if lease.subnets != key {
            return Err(bad(
                "Subnet",
                format!("the body is for {}, the path for {key}", lease.subnets),
            ));
        }
        Some(lease.attrs)
    };
    let lease = change(move || store.renew(key, attrs)).await?;
    Ok(json_answer(&lease))
}

async fn reserve(store: Arc<Store>, body: Bytes) -> Answer {
    let json: ReservationJson = decode(&body)?;
    let address = json!({"PublicIP": json.public_ip, "PublicIPv6": json.public_ipv6});
    let key = Subnets {
        v4: lease::subnet_v4("Subnet", json.subnet).map_err(invalid)?,
        v6: lease::subnet_v6("IPv6Subnet", json.ipv6_subnet).map_err(invalid)?,
    };
    if key.is_empty() {
        return Err(bad("Subnet", "is missing"));
    }
    let attrs = decode(address.to_string().as_bytes())?;
    change(move || {
        store.reserve(Reservation {
            subnets: key,
            attrs,
        })
    })
    .await?;
    Ok(text(String::new()))
}

fn reservations(store: &Store) -> Vec<ReservationJson> {
    let reservations = store.reservations().into_iter();
    let json = reservations.map(
        |Reservation {
             subnets: key,
             attrs,
         }| ReservationJson {
            subnet: key.v4.map(|net| net.to_string()),
            ipv6_subnet: key.v6.map(|net| net.to_string()),
            public_ip: attrs.public_ip.map(|ip| ip.to_string()),
            public_ipv6: attrs.public_ipv6.map(|ip| ip.to_string()),
        },
    );
    json.collect()
}

/// Changes wait for the disk: not on the thread that serves everybody.
async fn change<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error,
        )),
    }
}

#[derive(Default)]
struct Query {
    watch: bool,
    next: Option<u64>,
    store: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Query, Refusal> {
        let mut query = Query::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "watch" => query.watch = !matches!(value, "false" | "0"),
                "store" => query.store = Some(value.to_owned()),
                "next" => {
                    let number = value.parse();
                    query.next = Some(number.map_err(|_| {
                        bad("next", format!("{value:?} is no cursor of this server"))
                    })?);
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

fn known(network: &str) -> Result<(), Refusal> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if network == NETWORK {
        Ok(())
    } else if network.is_empty() || network.len() > 63 || !network.bytes().all(name) {
        Err(bad(
            "network",
            "a name has 1 to 63 letters, digits, '-', '_' or '.'",
        ))
    } else {
        Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "network",
            format!("there is no network {network} here, only the default one: {NETWORK}"),
        ))
    }
}

fn allow(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let mut refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        format!("use {}", names.join(" or ")),
    );
    refusal.detail = Some(("allow".into(), names.join(", ")));
    Err(refusal)
}

/// `&` and `:` may be escaped.
fn subnet_key(text: &str) -> Result<Subnets, Refusal> {
    let text = text
        .replace("%26", "&")
        .replace("%3A", ":")
        .replace("%3a", ":");
    text.parse().map_err(|error| bad("subnet", error))
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body",
            format!("the body is larger than {BODY_LIMIT} bytes"),
        )
    };
    if request.body().size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), BODY_LIMIT);
    match timeout(PATIENCE, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad("body", error.to_string())),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body",
            format!("no whole body within {PATIENCE:?}"),
        )),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    go_compat::json::from_slice(body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "body", format!("JSON: {error}")))
}

fn bad(what: &'static str, error: impl Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what, format!("{what}: {error}"))
}

fn invalid(error: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid", error)
}

const JSON: &str = "application/json; charset=utf-8";

fn response(status: StatusCode, kind: &'static str, body: AnyBody) -> Response<AnyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(json: String) -> Response<AnyBody> {
    response(StatusCode::OK, JSON, body::whole(json))
}

fn json_answer(value: &impl Serialize) -> Response<AnyBody> {
    text(wire::json(value))
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, error: impl ToString) -> Refusal {
        Refusal {
            status,
            code,
            error: error.to_string(),
            detail: None,
        }
    }

    fn into_response(self) -> Response<AnyBody> {
        let mut object = BTreeMap::from([("error", self.error), ("code", self.code.to_owned())]);
        let mut allow = None;
        match self.detail {
            Some((_, methods)) if self.status == StatusCode::METHOD_NOT_ALLOWED => {
                allow = HeaderValue::from_str(&methods).ok();
            }
            Some((min, max)) => object.extend([("min", min), ("max", max)]),
            None => {}
        }
        let mut response = response(self.status, JSON, body::whole(wire::json(&object)));
        if let Some(methods) = allow {
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let (status, code) = match &error {
            StoreError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            StoreError::Revoked(_) => (StatusCode::GONE, "revoked"),
            StoreError::HeldBy(..) => (StatusCode::CONFLICT, "held"),
            StoreError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            StoreError::Alloc(subnet::Error::OutOfSubnets { .. }) => {
                (StatusCode::CONFLICT, "out-of-subnets")
            }
            StoreError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        let mut refusal = Refusal::new(status, code, &error);
        if let StoreError::Alloc(subnet::Error::OutOfSubnets { min, max }) = error {
            refusal.detail = Some((min, max));
        }
        refusal
    }
}
