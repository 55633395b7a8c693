//! The fuzz target of what clients of the lease server send.

use super::state::State;
use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    subnet::{
        TTL,
        alloc::Reservation,
        embedded::wire::{Acquire, ReservationJson},
    },
};
use std::time::Instant;

const CONFIG: &str =
    r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48"}"#;

/// A request, its body as that of every method: the subnets of the path, a line feed, the body.
pub(crate) fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, body) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(mut config) = NetworkConfig::parse(CONFIG) else {
        return;
    };
    if config.check_subnets().is_err() {
        return;
    }
    let mut state = State::load(Vec::new(), 0, TTL, TTL);
    let (path, body) = (path.parse::<Subnets>(), body.as_bytes());
    if let Ok(attrs) = go_compat::json::from_slice::<LeaseAttrs>(body) {
        let acquire: Acquire = go_compat::json::from_slice(body).unwrap_or_default();
        let previous = acquire.previous.and_then(|text| text.parse().ok());
        let previous = previous.unwrap_or_default();
        if let Ok((changes, _)) = state.acquire(
            &config,
            attrs,
            previous,
            acquire.former.as_ref(),
            path.clone().ok(),
            7,
        ) {
            state.apply(changes);
        }
    }
    if let Ok(reservation) = go_compat::json::from_slice::<ReservationJson>(body)
        && let Ok(changes) = state.reserve(&config, Reservation::from(reservation))
    {
        state.apply(changes);
    }
    if let Ok(key) = path {
        let lease = go_compat::json::from_slice::<Lease>(body);
        if let Ok((changes, _)) = state.renew(&config, key, lease.ok().map(|lease| lease.attrs)) {
            state.apply(changes);
        }
        if let Ok(changes) = state.unreserve(key) {
            state.apply(changes);
        }
        if let Ok(changes) = state.revoke(key) {
            state.apply(changes);
        }
    }
    state.apply(state.expire(Instant::now() + TTL));
    state.since(Some(0));
}
