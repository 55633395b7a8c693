//! The netlink engine, for every message family: requests in batches with an answer each,
//! all-or-nothing transactions, dumps that are repeated when they were interrupted, the kernel's
//! own error texts, and multicast notifications.
//!
//! Synchronous and hand-written: rtnetlink and netlink-proto need an async runtime, which triples a
//! plugin's start-up, and wait for one answer a request, where a batch of 10,000 routes takes 80
//! packets.

mod attributes;
mod client;
mod datagram;
mod multicast;
mod request;
mod socket;

pub use attributes::{Attribute, Attributes, Malformed, Read, attributes, header};
pub use client::{Client, Transport};
pub use multicast::{Multicast, Notification};
pub use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
pub use request::{Mode, Request};
