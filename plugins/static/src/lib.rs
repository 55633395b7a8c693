//! The `static` IPAM plugin: gives the addresses that its configuration names, and keeps nothing.

mod conf;

use cni_conf::{AddResult, Error, IpConfig, Version};
use conf::{Address, Ipam};
use plugin::{AddOutput, Call, Plugin};

/// The plugin.
pub static PLUGIN: Static = Static;

/// See [`PLUGIN`].
#[derive(Debug)]
pub struct Static;

impl Plugin for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let ipam = Ipam::of(call)?;
        one_of_each_family(&ipam.addresses, call.net.version)?;
        let ips = ipam
            .addresses
            .iter()
            .map(|address| IpConfig {
                interface: None,
                address: address.net,
                gateway: address.gateway,
            })
            .collect();
        Ok(AddOutput::Result(AddResult {
            ips,
            routes: ipam.routes,
            dns: ipam.dns,
            ..Default::default()
        }))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let ipam = Ipam::of(call)?;
        let given = &call.prev_result()?.ips;
        for wanted in &ipam.addresses {
            if !given.iter().any(|ip| {
                ip.address == wanted.net
                    && (wanted.gateway.is_none() || ip.gateway == wanted.gateway)
            }) {
                return Err(Error::internal(format!(
                    "static: Failed to match addr {} on interface {}",
                    wanted.net, call.ifname
                )));
            }
        }
        Ok(())
    }

    /// There is nothing to give back.
    fn del(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    /// There is nothing to collect.
    fn gc(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        Ipam::of(call).map(|_| ())
    }
}

/// Results before 0.3.0 hold one address of each family.
fn one_of_each_family(addresses: &[Address], version: Version) -> Result<(), Error> {
    let six = addresses
        .iter()
        .filter(|address| address.net.is_ipv6())
        .count();
    if version < Version::V0_3_0 && (six > 1 || addresses.len() - six > 1) {
        let version = version.as_str();
        return Err(Error::internal(format!(
            "CNI version {version} does not support more than 1 address per family"
        )));
    }
    Ok(())
}
