//! The requests of the lease API. An error is `{"code":"...","error":"..."}`.

use super::{
    error::{ApiError, JSON},
    extract::{PathSubnets, RequestBody, Requester, decode, known_network},
    watch,
};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    subnet::{
        alloc::Reservation,
        embedded::{
            store::{Store, StoreError},
            wire::{self, Acquire, NETWORK, ReservationJson},
        },
    },
};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, State, rejection::QueryRejection},
    handler::Handler,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    middleware,
    routing::{delete, get},
};
use serde::Deserialize;
use std::{future::ready, sync::Arc};

type Answer = Result<([(HeaderName, &'static str); 1], Body), ApiError>;

pub(super) fn router(store: Arc<Store>) -> Router {
    let network = Router::new()
        .route("/config", get(config).fallback(not_allowed("GET")))
        .route(
            "/leases",
            get(leases).post(acquire).fallback(not_allowed("GET, POST")),
        )
        .route(
            "/leases/{subnets}",
            get(one)
                .put(renew)
                .delete(revoke)
                .fallback(not_allowed("GET, PUT, DELETE")),
        )
        .route(
            "/reservations",
            get(reservations)
                .post(reserve)
                .fallback(not_allowed("GET, POST")),
        )
        .route(
            "/reservations/{subnets}",
            delete(unreserve).fallback(not_allowed("DELETE")),
        )
        .route_layer(middleware::from_fn(known_network));
    Router::new()
        .route("/v1", get(networks).fallback(not_allowed("GET")))
        .route("/v1/", get(networks).fallback(not_allowed("GET")))
        .nest("/v1/{network}", network)
        .fallback(not_found)
        .layer(DefaultBodyLimit::disable())
        .with_state(store)
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "path",
        "unknown path: see /v1/_/config, /v1/_/leases and /v1/_/reservations",
    )
}

fn not_allowed(methods: &'static str) -> impl Handler<((),), Arc<Store>> {
    move || ready(ApiError::method(methods))
}

async fn networks() -> Answer {
    text(format!(
        r#"{{"cursor":"0","events":null,"snapshot":["{NETWORK}"]}}"#
    ))
}

async fn config(State(store): State<Arc<Store>>) -> Answer {
    text(store.config().raw)
}

/// The query of a request about leases.
#[derive(Deserialize)]
struct Since {
    /// A stream instead of an answer.
    watch: Option<String>,
    /// The revision that the client has seen.
    next: Option<u64>,
    /// The store that the revision is of.
    store: Option<String>,
    /// The opening of the store that the revision is of.
    epoch: Option<String>,
    /// The process that watches, or holds the lease.
    session: Option<String>,
}

fn since(query: Result<Query<Since>, QueryRejection>) -> Result<Since, ApiError> {
    let Query(since) =
        query.map_err(|error| ApiError::bad("next", format!("invalid cursor: {error}")))?;
    Ok(since)
}

async fn leases(
    State(store): State<Arc<Store>>,
    query: Result<Query<Since>, QueryRejection>,
) -> Answer {
    let since = since(query)?;
    if since
        .watch
        .is_some_and(|watch| watch != "false" && watch != "0")
    {
        // a cursor counts only for the past of the store that it is of
        let same_store = since.store.as_deref() == Some(store.id.as_str());
        let seen = since.next.zip(since.epoch);
        let continues = seen.map(|(seen, epoch)| same_store && store.continues(&epoch, seen));
        let cursor = since.next.filter(|_| continues == Some(true));
        let body = watch::stream(store, cursor, continues, since.session);
        return Ok(([(CONTENT_TYPE, "application/x-ndjson")], body));
    }
    if let Some(seen) = since.next {
        watch::changed_since(&store, seen).await;
    }
    text(watch::list(&store))
}

async fn one(
    State(store): State<Arc<Store>>,
    PathSubnets(subnets): PathSubnets,
    query: Result<Query<Since>, QueryRejection>,
) -> Answer {
    if let Some(seen) = since(query)?.next {
        watch::changed_since(&store, seen).await;
    }
    let (lease, revision) = store.lease(&subnets);
    let lease = lease.ok_or(StoreError::Unknown(subnets))?;
    text(format!(
        r#"{{"events":null,"snapshot":[{}],"cursor":"{revision}"}}"#,
        wire::json(&lease)
    ))
}

async fn acquire(
    State(store): State<Arc<Store>>,
    Requester(caller): Requester,
    query: Result<Query<Since>, QueryRejection>,
    RequestBody(body): RequestBody,
) -> Answer {
    let attrs: LeaseAttrs = decode(&body)?;
    let Acquire { previous, former } = decode(&body)?;
    let session = since(query)?.session;
    let previous = match previous.filter(|previous| !previous.is_empty()) {
        Some(text) => text
            .parse()
            .map_err(|error| ApiError::bad("Previous", error))?,
        None => Subnets::default(),
    };
    let lease = change(&store, move |store| {
        let access = store.access(&caller);
        access.acquire_as(session.as_deref(), attrs, previous, former)
    })
    .await?;
    text(wire::json(&lease))
}

/// The body is the lease, as in the old API, or empty.
async fn renew(
    State(store): State<Arc<Store>>,
    Requester(caller): Requester,
    PathSubnets(subnets): PathSubnets,
    query: Result<Query<Since>, QueryRejection>,
    RequestBody(body): RequestBody,
) -> Answer {
    let session = since(query)?.session;
    let mut attrs = None;
    if !body.is_empty() {
        let lease: Lease = decode(&body)?;
        if !lease.subnets.includes(&subnets) {
            return Err(ApiError::bad(
                "Subnet",
                format!("the body is for {}, the path for {subnets}", lease.subnets),
            ));
        }
        attrs = Some(lease.attrs);
    }
    let lease = change(&store, move |store| {
        let access = store.access(&caller);
        access.renew_as(session.as_deref(), subnets, attrs)
    })
    .await?;
    text(wire::json(&lease))
}

async fn revoke(
    State(store): State<Arc<Store>>,
    Requester(caller): Requester,
    PathSubnets(subnets): PathSubnets,
) -> Answer {
    change(&store, move |store| store.access(&caller).revoke(subnets)).await?;
    text(Body::empty())
}

async fn reservations(State(store): State<Arc<Store>>) -> Answer {
    let reservations = store.reservations();
    let reservations = reservations.iter().map(ReservationJson::from);
    text(wire::json(&reservations.collect::<Vec<_>>()))
}

async fn reserve(
    State(store): State<Arc<Store>>,
    Requester(caller): Requester,
    RequestBody(body): RequestBody,
) -> Answer {
    let request: ReservationJson = decode(&body)?;
    let reservation = Reservation::from(request);
    if reservation.subnets.is_empty() {
        return Err(ApiError::bad("Subnet", "is missing"));
    }
    change(&store, move |store| {
        store.access(&caller).reserve(reservation)
    })
    .await?;
    text(Body::empty())
}

async fn unreserve(
    State(store): State<Arc<Store>>,
    Requester(caller): Requester,
    PathSubnets(subnets): PathSubnets,
) -> Answer {
    change(&store, move |store| {
        store.access(&caller).unreserve(subnets)
    })
    .await?;
    text(Body::empty())
}

async fn change<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    match store.on_thread(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error,
        )),
    }
}

fn text(json: impl Into<Body>) -> Answer {
    Ok(([(CONTENT_TYPE, JSON)], json.into()))
}
