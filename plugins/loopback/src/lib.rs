//! The `loopback` plugin: takes `lo` of a container up. It works on `lo` whatever CNI_IFNAME says.
use cni_conf::{AddResult, Error, Interface, IpConfig};
use linux_net::{NetNs, Netlink, address::Address, link};
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The plugin.
pub static PLUGIN: Loopback = Loopback;

/// Its verbs. GC and STATUS have nothing to do: the device goes with its namespace, and every
/// namespace has one.
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
        let addresses = take_up(&netns).map_err(Error::internal)?;
        if let Some(stranger) = addresses.iter().find(|a| !a.net.ip().is_loopback()) {
            return Err(Error::internal(format!(
                "loopback interface found with non-loopback address \"{}\"",
                stranger.net.ip()
            )));
        }
        // as part of a chain it hands on what came before
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
            // gone, or the empty file that is left of it after a reboot
            Err(error) if error.is_absent() => return Ok(()),
            Err(linux_net::Error::NotANamespace { .. }) => return Ok(()),
            Err(error) => return Err(Error::internal(error)),
        };
        set(&netns, false).map(drop).map_err(Error::internal)
    }

    fn gc(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _call: &Call) -> Result<(), Error> {
        Ok(())
    }
}

fn set(netns: &NetNs, up: bool) -> linux_net::Result<Netlink> {
    let mut net = Netlink::open_in(netns)?;
    let change = link::Change {
        up: Some(up),
        ..link::Change::default()
    };
    net.request(&link::change(INDEX, &change))?;
    Ok(net)
}

fn take_up(netns: &NetNs) -> linux_net::Result<Vec<Address>> {
    set(netns, true)?.addresses(Some(INDEX))
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
