//! The `bridge` plugin: a bridge on the host, a veth pair for each pod, addresses and routes from an IPAM plugin; gateway,
//! masquerade, VLANs, isolation and the check of the pods' MACs where they are asked for.
//!
//! [`conf`] reads the keys, [`plan`] works out what is to be done, [`add`], [`check`], [`del`] and [`gc`] are the verbs, and
//! the other modules each execute one idea. Whatever an attachment leaves on the node has a name that follows from network,
//! container id and interface ([`names`]), so that DEL and GC find it without any help.

pub mod add;
pub mod bridge;
pub mod check;
mod check_addresses;
pub mod conf;
pub mod del;
pub mod error;
mod filter;
pub mod gc;
pub mod masquerade;
pub mod masquerade_iptables;
pub mod masquerade_nft;
pub mod names;
pub mod plan;
pub mod pod;
pub mod spoof;
pub mod status;
pub mod undo;
pub mod vlan;
pub mod vlan_port;
pub mod wait;

pub use error::Error;

use plugin::{AddOutput, Call, Plugin};

/// The plugin, for the suite and for delegation in process.
pub static PLUGIN: Bridge = Bridge;

/// Its verbs.
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
