//! The `bandwidth` plugin: a token bucket for what a container receives (on its veth's host end)
//! and one for what it sends (on an ifb device that the host end redirects its incoming traffic
//! to).

mod conf;
mod error;
pub mod fuzz;
mod shaper;

use cni_conf::{AddResult, Code, Error, Version};
use conf::Bandwidth;
use error::Failure;
use linux_net::{NetNs, Netlink, link::Link};
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The entry in the registry of plugins.
pub static PLUGIN: BandwidthPlugin = BandwidthPlugin;

/// The plugin.
#[derive(Debug)]
pub struct BandwidthPlugin;

impl Plugin for BandwidthPlugin {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn versions(&self) -> &'static [Version] {
        &[
            Version::V0_3_0,
            Version::V0_3_1,
            Version::V0_4_0,
            Version::V1_0_0,
            Version::V1_1_0,
        ]
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let limits = Bandwidth::read(call.document())?;
        let mut result = prev_result(call)?.clone();
        if !limits.is_unlimited() {
            let (mut host, veth) = host_end(call, &result)?;
            let ifb = shaper::apply(&mut host, &veth, &limits, &call.attachment())?;
            result.interfaces.extend(ifb);
        }
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let limits = Bandwidth::read(call.document())?;
        let result = prev_result(call)?;
        if !limits.is_unlimited() {
            let (mut host, veth) = host_end(call, result)?;
            shaper::check(&mut host, &veth, &limits, &call.attachment())?;
        }
        Ok(())
    }

    /// Deleting the veth deletes its bucket; the ifb device's name follows from the attachment.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let mut host = Netlink::open().map_err(Failure::Kernel)?;
        Ok(shaper::delete_ifb(
            &mut host,
            &shaper::ifb_name(&call.attachment()),
        )?)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = call.valid_attachments() else {
            return Ok(());
        };
        let mut host = Netlink::open().map_err(Failure::Kernel)?;
        Ok(shaper::collect(&mut host, &call.net.name, &valid)?)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        Bandwidth::read(call.document())
            .map(drop)
            .map_err(|failure| Error::new(Code::NotAvailable, failure.to_string()))
    }
}

fn prev_result(call: &Call) -> Result<&AddResult, Failure> {
    call.net.prev_result.as_ref().ok_or(Failure::NotChained)
}

/// A socket in the host's namespace, and the host end of the container's veth.
fn host_end(call: &Call, result: &AddResult) -> Result<(Netlink, Link), Failure> {
    let mut host = Netlink::open()?;
    let path = Path::new(&call.netns);
    let netns = NetNs::open(path).map_err(|source| Failure::NetNs {
        path: path.to_owned(),
        source,
    })?;
    let veth = shaper::host_end(&mut host, &netns, &call.ifname, result)?;
    Ok((host, veth))
}
