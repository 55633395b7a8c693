//! The underlay: the interface and addresses by which other nodes reach this one (upstream:
//! pkg/ipmatch). Nothing here talks to the kernel: `select` decides on a dump, so the daemon can
//! select again whenever the host's network changes.

mod addresses;
mod error;
#[cfg(test)]
pub(crate) mod fixtures;
mod host_network;
mod link_state;
mod obstacle;
mod routes;
mod select;
mod selected;
mod selector;
mod tracker;

pub(crate) use error::Error;
pub(crate) use host_network::HostNetwork;
pub(crate) use link_state::LinkState;
pub(crate) use obstacle::{IPV6_MIN_MTU, Obstacle};
pub(crate) use routes::{RouteDependencies, UnderlayRoutes};
pub(crate) use select::select;
pub(crate) use selected::Underlay;
pub(crate) use selector::Selector;
pub(crate) use tracker::{Observation, Tracker};
