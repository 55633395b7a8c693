//! What goes over the wire besides leases themselves.
//!
//! `GET /v1/_/leases` answers `{"events":null,"snapshot":[LEASE, ...],"cursor":"17"}` as flannel up to v0.7 did; with
//! `?next=CURSOR` it waits until there is something newer. With `?watch=true` (ours) it answers with lines, each a [`Line`], for as long as both sides live:
//!
//! ```text
//! {"store":"6f1c...","ttl":86400,"snapshot":[LEASE, ...],"more":true}    the whole picture, in pieces of about 64 KiB
//! {"store":"6f1c...","ttl":86400,"snapshot":[LEASE, ...],"cursor":"17"}  its last piece
//! {"events":[{"type":"removed","reason":"revoked","lease":LEASE}],"cursor":"18"}
//! {"cursor":"18"}                                                        a heartbeat, every 10 s
//! ```
//!
//! Each watch begins with `{"store":"6f1c...","ttl":86400}`. `?watch=true&store=ID&next=CURSOR` resumes: the server leaves the
//! picture out if it still knows what came since.
use crate::model::{Subnets, lease::LeaseAttrs};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the only network, as in flannel up to v0.7.
pub const NETWORK: &str = "_";
/// How long a lease lives without renewal, as upstream: 24 h.
pub const TTL: std::time::Duration = std::time::Duration::from_secs(86_400);
/// How often the server says that it is there.
pub const HEARTBEAT: std::time::Duration =
    std::time::Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });
/// The largest body of a request, bytes.
pub const BODY_LIMIT: usize = 16 << 10;
/// Lines are closed when they reach this size, bytes.
pub const LINE_TARGET: usize = 64 << 10;
/// The longest line (or answer) that a client takes, bytes.
pub const LINE_LIMIT: usize = 1 << 20;

/// One line of a watch, as a client reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The identity of the store's file; another one means that the store was lost and begun anew.
    pub store: Option<String>,
    /// How long the store's leases live, seconds.
    pub ttl: Option<u64>,
    /// A piece of the picture.
    pub snapshot: Option<Vec<Value>>,
    /// More pieces follow.
    pub more: bool,
    /// What changed.
    pub events: Vec<Event>,
    /// The state that is now known.
    pub cursor: Option<String>,
}

/// A change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// "added" (or changed) or "removed"
    #[serde(rename = "type")]
    pub kind: String,
    /// Why it was removed: "revoked", "expired" or "replaced".
    pub reason: String,
    /// The lease.
    pub lease: Value,
}

/// What POST leases takes beside the attributes (ours).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Acquire {
    /// The subnets that the node had before: `10.1.2.0-24&fd00::-64`.
    #[serde(rename = "Previous")]
    pub previous: Option<String>,
    /// The public addresses under which the node holds a lease, if they are others now.
    #[serde(rename = "Formerly")]
    pub formerly: Option<LeaseAttrs>,
}

/// The body of POST leases.
pub fn acquire_body(
    attrs: &LeaseAttrs,
    previous: &Subnets,
    formerly: Option<&LeaseAttrs>,
) -> String {
    let mut body = serde_json::to_value(attrs).unwrap_or_default();
    if !previous.is_empty() {
        body["Previous"] = previous.to_string().into();
    }
    if let Some(LeaseAttrs {
        public_ip,
        public_ipv6,
        ..
    }) = formerly
    {
        body["Formerly"] = serde_json::json!({"PublicIP": public_ip, "PublicIPv6": public_ipv6});
    }
    json(&body)
}

/// The body of POST reservations: the old API's shape, with IPv6 added.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReservationJson {
    /// `10.1.2.0/24`
    #[serde(rename = "Subnet")]
    pub subnet: Option<String>,
    /// `fd00:1::/64`
    #[serde(rename = "IPv6Subnet", skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<String>,
    /// Whose it is.
    #[serde(rename = "PublicIP")]
    pub public_ip: Option<String>,
    /// The same of a node without IPv4.
    #[serde(rename = "PublicIPv6", skip_serializing_if = "Option::is_none")]
    pub public_ipv6: Option<String>,
}

/// JSON of our own types: strings, numbers and maps with string keys, for which writing into memory cannot fail.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
