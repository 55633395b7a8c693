//! CHECK: the objects of ADD still exist. Beyond upstream it checks the port's hairpin mode and
//! isolation, the bridge's gateway addresses, forwarding, masquerade and the spoof check, and it
//! works without IPAM.

mod addresses;
mod host;
mod links;

use crate::{Error, conf::Settings, error::Context, sandbox::Sandbox, vlan};
use links::Claimed;
use linux_net::Netlink;
use plugin::{Call, Verb, delegate};

pub(crate) fn check(call: &Call) -> Result<(), Error> {
    let settings = Settings::of(call)?;
    if settings.layer3 {
        delegate::ipam(call, Verb::Check)?;
    }
    let claimed = Claimed::new(call.prev_result()?, call, &settings)?;
    let mut host = Netlink::open().context("failed to open a netlink socket")?;
    let mut sandbox = Sandbox::open(&call.netns)?;

    let bridge = links::check_bridge(&mut host, claimed.bridge, &settings)?;
    let container = links::check_container(&mut sandbox, claimed.container)?;
    let port = links::find_port(&mut host, &claimed, &bridge, &container)?;
    links::check_port(&port, &settings)?;
    vlan::check_port(&mut host, &port, &settings.vlans)?;
    if settings.layer3 {
        addresses::check(&mut sandbox, &container, claimed.result)?;
        if settings.gateway {
            host::check_gateway(&mut host, &settings, &bridge, claimed.result)?;
            host::check_forwarding(claimed.result)?;
        }
    }
    host::check_masquerade(call, &settings, claimed.result)?;
    host::check_spoof_check(call, &settings, &port, &container)
}
