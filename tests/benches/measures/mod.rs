//! The measures.

mod bare;
mod chain;
mod datapath;
mod footprint;
mod healing;
mod host_local;
mod lease_server;
mod managers;
mod parallel;
mod portmap;
mod requests;
mod startup;

use crate::{contender::Contender, measure::Measure};

type Run = fn(&[Contender], usize) -> Vec<Measure>;

/// The name (for `ONLY=NAME`) and the function of each group of measures.
pub(crate) const ALL: &[(&str, Run)] = &[
    ("startup", startup::run),
    ("chain", chain::plain),
    ("masquerade", chain::masquerade),
    ("parallel", parallel::run),
    ("host-local", host_local::run),
    ("portmap", portmap::run),
    ("footprint", footprint::run),
    ("lease-server", lease_server::run),
    ("managers", managers::run),
    ("datapath-vxlan", datapath::vxlan),
    ("datapath-host-gw", datapath::host_gw),
    ("datapath-ipip", datapath::ipip),
    ("datapath-wireguard", datapath::wireguard),
    ("datapath-udp", datapath::udp),
    ("healing", healing::run),
];

/// Measures that only `ONLY=NAME` runs, since they take minutes.
pub(crate) const ON_REQUEST: &[(&str, Run)] = &[("requests-per-hour", requests::run)];
