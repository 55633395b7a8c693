//! The `bandwidth` plugin: token buckets for what a container receives (on its veth's host end) and for what it sends (on an ifb
//! device that the host end's incoming traffic is sent through).
mod conf;
mod owner;
mod shaper;

use cni_conf::{Code, Error, Version};
use conf::Bandwidth;
use linux_net::{NetNs, Netlink};
use owner::Owner;
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The plugin.
pub static PLUGIN: BandwidthPlugin = BandwidthPlugin;

/// Its verbs.
#[derive(Debug)]
pub struct BandwidthPlugin;

impl Plugin for BandwidthPlugin {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn versions(&self) -> &'static [Version] {
        Version::ALL.get(2..).unwrap_or_default()
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let limits = Bandwidth::read(call)?;
        let mut result = call.net.prev_result.clone().ok_or_else(not_chained)?;
        if !limits.is_unlimited() {
            let mut host = Netlink::open().map_err(Error::internal)?;
            let veth = shaper::host_end(&mut host, &open(call)?, &call.ifname, &result)?;
            let ifb = shaper::apply(&mut host, &veth, &limits, &Owner::of_call(call))?;
            result.interfaces.extend(ifb);
        }
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let limits = Bandwidth::read(call)?;
        let result = call.net.prev_result.as_ref().ok_or_else(not_chained)?;
        if limits.is_unlimited() {
            return Ok(());
        }
        let mut host = Netlink::open().map_err(Error::internal)?;
        let veth = shaper::host_end(&mut host, &open(call)?, &call.ifname, result)?;
        shaper::check(&mut host, &veth, &limits, &Owner::of_call(call))
    }

    /// The bucket on the veth goes with the veth; the ifb device has a name that is known without prevResult.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let mut host = Netlink::open().map_err(Error::internal)?;
        shaper::remove(&mut host, &Owner::of_call(call).ifb())
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = &call.net.valid_attachments else {
            return Ok(());
        };
        let mut host = Netlink::open().map_err(Error::internal)?;
        shaper::collect(&mut host, &call.net.name, valid)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let not_available = |error: Error| Error::new(Code::NotAvailable, error.msg);
        Bandwidth::read(call).map(drop).map_err(not_available)
    }
}

fn not_chained() -> Error {
    Error::internal("must be called as chained plugin")
}

fn open(call: &Call) -> Result<NetNs, Error> {
    NetNs::open(Path::new(&call.netns))
        .map_err(|error| Error::internal(format!("failed to open netns {:?}: {error}", call.netns)))
}
