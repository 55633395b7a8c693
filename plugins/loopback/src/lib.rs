//! The `loopback` plugin: sets `lo` of a container up, whatever CNI_IFNAME is.

use cni_conf::{AddResult, Error, Interface, IpConfig};
use linux_net::{NetNs, Netlink, address::Address, link};
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The plugin, for the suite.
pub static PLUGIN: Loopback = Loopback;

/// The type of [`PLUGIN`]. GC and STATUS have nothing to do: every namespace has the device, which
/// is removed with it.
#[derive(Debug)]
pub struct Loopback;

/// `lo` is the first device of every namespace (linux/netdevice.h LOOPBACK_IFINDEX).
const INDEX: u32 = 1;

impl Plugin for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let netns = NetNs::open(Path::new(&call.netns)).map_err(Error::internal)?;
        let addresses = set_up(&netns).map_err(Error::internal)?;
        if let Some(other) = addresses.iter().find(|a| !a.net.ip().is_loopback()) {
            return Err(Error::internal(format!(
                "loopback interface found with non-loopback address \"{}\"",
                other.net.ip()
            )));
        }
        // in a chain, the previous result is passed on
        let result = match &call.net.prev_result {
            Some(previous) => previous.clone(),
            None => result(&call.netns, &addresses),
        };
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let netns = NetNs::open(Path::new(&call.netns)).map_err(Error::internal)?;
        match Netlink::open_in(&netns).and_then(|mut net| net.link_by_index(INDEX)) {
            Ok(Some(lo)) if lo.up => Ok(()),
            Ok(_) => Err(Error::internal("loopback interface is down")),
            Err(error) => Err(Error::internal(error)),
        }
    }

    fn del(&self, call: &Call) -> Result<(), Error> {
        if call.netns.is_empty() {
            return Ok(());
        }
        let netns = match NetNs::open(Path::new(&call.netns)) {
            Ok(netns) => netns,
            // removed, or the empty file that a reboot leaves
            Err(error) if error.is_absent() => return Ok(()),
            Err(linux_net::Error::NotANamespace { .. }) => return Ok(()),
            Err(error) => return Err(Error::internal(error)),
        };
        set_state(&netns, false).map(drop).map_err(Error::internal)
    }

    fn gc(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }
}

fn set_state(netns: &NetNs, up: bool) -> linux_net::Result<Netlink> {
    let mut net = Netlink::open_in(netns)?;
    let change = link::Change {
        up: Some(up),
        ..link::Change::default()
    };
    net.request(&link::change(INDEX, &change))?;
    Ok(net)
}

fn set_up(netns: &NetNs) -> linux_net::Result<Vec<Address>> {
    set_state(netns, true)?.addresses(Some(INDEX))
}

/// The device and its first address of each family.
fn result(sandbox: &str, addresses: &[Address]) -> AddResult {
    let first = |v4: bool| addresses.iter().find(|a| a.net.is_ipv4() == v4);
    AddResult {
        interfaces: vec![Interface {
            name: "lo".into(),
            mac: "00:00:00:00:00:00".into(),
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        }],
        ips: [first(true), first(false)]
            .into_iter()
            .flatten()
            .map(|address| IpConfig {
                interface: Some(0),
                address: address.net,
                gateway: None,
            })
            .collect(),
        ..AddResult::default()
    }
}
