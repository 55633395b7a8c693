//! The reconciler: keeps the host in the state that the backend and the rules ask for.
//!
//! `event_loop` decides when a pass runs, and `event_filter` what it has to look at
//! (`host_changes`). `pass` reads the host or that part of it (`observe`, `ownership`), compares it
//! with the plan (`conflict`, `diff`), and makes the changes (`apply`, `backoff`). While nodes
//! change their backend, `transition` makes the plan of two or more, and `prepare` makes new
//! tunnels before other nodes learn of them.

mod apply;
mod backoff;
mod conflict;
mod diff;
mod event_filter;
mod event_loop;
mod host_changes;
mod kernel;
mod log;
mod observe;
mod outcome;
mod ownership;
mod pass;
mod pod_mtu;
mod policies;
mod prepare;
mod rate_limiter;
mod transition;
mod tx_checksum;
mod wireguard;

pub(crate) use conflict::RouteConflict;
pub(crate) use event_loop::{EventLoop, Notifications};
pub(crate) use kernel::Kernel;
#[cfg(test)]
pub(crate) use observe::device_link;
pub(crate) use outcome::Outcome;
pub(crate) use ownership::is_direct_route;
pub(crate) use pass::{Earlier, Reconciler, Settings};
pub(crate) use pod_mtu::PodMtuExcess;
pub(crate) use policies::{REQID, is_ours as is_own_policy};
pub(crate) use prepare::Tunnels;

/// Why the loop ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Notifications of links, addresses, routes or neighbours cannot be read.
    #[error(transparent)]
    Netlink(#[from] linux_net::Error),
    /// Notifications of nftables cannot be read.
    #[error(transparent)]
    PacketFilter(#[from] packet_filter::Error),
    /// The runtime cannot wait for a notification socket.
    #[error("failed to watch for changes of the host: {0}")]
    Watch(#[source] std::io::Error),
    /// There is no thread for the passes.
    #[error("failed to start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A pass panicked.
    #[error("a pass over the host ended early: {0}")]
    Pass(#[from] tokio::sync::oneshot::error::RecvError),
    /// The subnet manager ended.
    #[error("the subnet manager stopped")]
    NoSubnetManager,
}
