//! The `bridge` plugin: a bridge on the host, a veth pair for each pod, and addresses and routes
//! from an IPAM plugin; on request a gateway, masquerade, VLANs, port isolation and a check of the
//! pods' MAC addresses.
//!
//! `conf` reads the configuration, `plan` computes addresses, routes and gateways, and `add`,
//! `check`, `del`, `gc` and `status` are the verbs. The names of all objects of an attachment
//! derive from network, container id and interface name (`names`), so that DEL and GC find them
//! without prevResult.

mod add;
mod bridge;
mod check;
mod conf;
mod container;
mod del;
mod device;
mod error;
mod filter;
pub mod fuzz;
mod gateway;
mod gc;
mod leftover;
mod masquerade;
mod names;
mod plan;
mod sandbox;
mod spoof;
mod status;
mod undo;
mod veth;
mod vlan;
mod wait;

use error::Error;
use plugin::{AddOutput, Call, Plugin};

pub use leftover::Leftover;

/// The plugin, for the suite's registry.
pub static PLUGIN: Bridge = Bridge;

/// Implements [`Plugin`].
#[derive(Debug)]
pub struct Bridge;

impl Plugin for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }
    fn add(&self, call: &Call) -> Result<AddOutput, cni_conf::Error> {
        Ok(AddOutput::Result(add::add(call)?))
    }
    fn check(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(check::check(call)?)
    }
    fn del(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(del::del(call)?)
    }
    fn gc(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(gc::gc(call)?)
    }
    fn status(&self, call: &Call) -> Result<(), cni_conf::Error> {
        Ok(status::status(call)?)
    }
}
