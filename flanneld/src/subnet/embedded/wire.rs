//! The JSON of the lease API, besides leases themselves.
//!
//! `GET /v1/_/leases` answers `{"events":null,"snapshot":[LEASE, ...],"cursor":"17"}` as flannel up
//! to v0.7 did; with `?next=CURSOR` it waits until something has changed. With `?watch=true` (new)
//! it answers with lines, each a [`Line`], until one side ends the connection:
//!
//! ```text
//! {"store":"6f1c...",...,"snapshot":[LEASE, ...],"more":true}    leases, 64 KiB a line
//! {"store":"6f1c...",...,"snapshot":[LEASE, ...],"cursor":"17"}  the last of them
//! {"events":[{"type":"removed","reason":"revoked","lease":LEASE}],"cursor":"18"}
//! {"cursor":"18"}                                                        a heartbeat, every 10 s
//! ```
//!
//! Each watch begins with `{"store":"6f1c...","epoch":"02be...","ttl":86400,"grace":900}`.
//! `?watch=true&store=ID&next=CURSOR&epoch=EPOCH` resumes: the server sends no snapshot if it still
//! knows what changed since. The epoch is another one after each opening of the store, because a
//! store that was restored from a backup counts its revisions a second time. `"continues":true`
//! says that the cursor is one of this store's past, `false` that the store is older than what the
//! client has seen. A client that names no epoch gets the snapshot, and neither of the two words.

use crate::{
    model::{
        Subnets,
        lease::{self, LeaseAttrs},
    },
    subnet::alloc::Reservation,
};
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// The name of the only network, as in flannel up to v0.7.
pub(super) const NETWORK: &str = "_";
pub(super) const HEARTBEAT_INTERVAL: Duration =
    Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });
/// Longest body of a request, bytes.
pub(super) const BODY_LIMIT: usize = 16 << 10;
/// A line that has reached this length ends, bytes.
pub(super) const LINE_TARGET: usize = 64 << 10;
/// Longest line, or answer, that a client accepts, bytes.
pub(super) const LINE_LIMIT: usize = 1 << 20;

/// One line of a watch, as a client reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    /// The id of the store's file. Another one means that the store was lost.
    pub(super) store: Option<String>,
    /// The opening of the store.
    pub(super) epoch: Option<String>,
    /// The cursor of the request is one of this store's past. Only if the request names an epoch.
    pub(super) continues: Option<bool>,
    /// Life of a lease that is not renewed, seconds.
    pub(super) ttl: Option<u64>,
    /// Shortest life of a lease after the store was opened, seconds.
    pub(super) grace: Option<u64>,
    /// Some leases of the snapshot.
    pub(super) snapshot: Option<Vec<Value>>,
    pub(super) events: Vec<Event>,
    /// The network configuration, as GET config serves it: in the first line of a watch, and in one
    /// of its own when it changes.
    pub(super) config: Option<String>,
    /// The revision that is now known. A line of a snapshot has it only if it is the last one.
    pub(super) cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    /// "added" (or changed) or "removed".
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Of a removal: "revoked", "expired" or "replaced".
    pub(super) reason: String,
    pub(super) lease: Value,
}

/// The body of POST leases, besides the attributes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Acquire {
    /// The subnets that the node had before: `10.1.2.0-24&fd00::-64`.
    #[serde(rename = "Previous")]
    pub(super) previous: Option<String>,
    /// The public addresses by which the node holds a lease, if they have changed.
    #[serde(rename = "Formerly")]
    pub(super) former: Option<LeaseAttrs>,
}

/// The body of POST leases.
pub(super) fn acquire_body(
    attrs: &LeaseAttrs,
    previous: &Subnets,
    former: Option<&LeaseAttrs>,
) -> String {
    let mut body = serde_json::json!(attrs);
    if !previous.is_empty() {
        body["Previous"] = previous.to_string().into();
    }
    if let Some(former) = former {
        body["Formerly"] =
            serde_json::json!({"PublicIP": former.public_ip, "PublicIPv6": former.public_ipv6});
    }
    body.to_string()
}

/// The body of POST reservations: the old API's, with IPv6 added.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ReservationJson {
    #[serde(
        rename = "Subnet",
        serialize_with = "lease::as_text",
        deserialize_with = "lease::subnet_v4"
    )]
    pub(super) subnet: Option<Ipv4Network>,
    #[serde(
        rename = "IPv6Subnet",
        skip_serializing_if = "Option::is_none",
        serialize_with = "lease::as_text",
        deserialize_with = "lease::subnet_v6"
    )]
    pub(super) ipv6_subnet: Option<Ipv6Network>,
    /// The node's address.
    #[serde(rename = "PublicIP", deserialize_with = "lease::specified")]
    pub(super) public_ip: Option<Ipv4Addr>,
    /// The address of a node without IPv4.
    #[serde(
        rename = "PublicIPv6",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lease::specified"
    )]
    pub(super) public_ipv6: Option<Ipv6Addr>,
}

impl From<&Reservation> for ReservationJson {
    fn from(reservation: &Reservation) -> ReservationJson {
        ReservationJson {
            subnet: reservation.subnets.v4,
            ipv6_subnet: reservation.subnets.v6,
            public_ip: reservation.attrs.public_ip,
            public_ipv6: reservation.attrs.public_ipv6,
        }
    }
}

impl From<ReservationJson> for Reservation {
    fn from(json: ReservationJson) -> Reservation {
        Reservation {
            subnets: Subnets {
                v4: json.subnet,
                v6: json.ipv6_subnet,
            },
            attrs: LeaseAttrs {
                public_ip: json.public_ip,
                public_ipv6: json.public_ipv6,
                ..LeaseAttrs::default()
            },
        }
    }
}

/// The JSON of our own types. Writing strings, numbers and maps with string keys into memory cannot
/// fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
