//! The `static` IPAM plugin: returns the addresses of its configuration and stores nothing.

mod conf;
pub mod fuzz;

use cni_conf::{Error, IpConfig, Version};
use plugin::{AddOutput, Call, Plugin};

/// The plugin, for the suite.
pub static PLUGIN: Static = Static;

/// The type of [`PLUGIN`]. DEL and GC have nothing to release.
#[derive(Debug)]
pub struct Static;

impl Plugin for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let result = conf::read(call)?;
        one_of_each_family(&result.ips, call.net.version)?;
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let configured = conf::read(call)?.ips;
        let assigned = &call.prev_result()?.ips;
        let is_assigned = |ip: &IpConfig| {
            assigned.iter().any(|other| {
                other.address == ip.address && (ip.gateway.is_none() || other.gateway == ip.gateway)
            })
        };
        match configured.iter().find(|ip| !is_assigned(ip)) {
            None => Ok(()),
            Some(ip) => Err(Error::internal(format!(
                "static: Failed to match addr {} on interface {}",
                ip.address, call.ifname
            ))),
        }
    }

    fn del(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn gc(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        conf::read(call).map(drop)
    }
}

/// Results before 0.3.0 hold one address of each family.
fn one_of_each_family(ips: &[IpConfig], version: Version) -> Result<(), Error> {
    let v6 = ips.iter().filter(|ip| ip.address.is_ipv6()).count();
    if version < Version::V0_3_0 && (v6 > 1 || ips.len() - v6 > 1) {
        let version = version.as_str();
        return Err(Error::internal(format!(
            "CNI version {version} does not support more than 1 address per family"
        )));
    }
    Ok(())
}
