//! linux-net against the kernel, checked by `ip`, `bridge` and `tc`.

mod batches;
mod links;
mod monitor;
mod namespaces;
mod routing;
mod shaping;
mod wireguard;
mod xfrm;

use ipnetwork::IpNetwork;
use linux_net::{Netlink, link};
use serde_json::Value;
use std::net::IpAddr;
use tests::Host;

/// The first object of what a command prints as JSON.
#[track_caller]
fn first(host: &Host, command: &str) -> Value {
    let all: Value = serde_json::from_str(&host.sh(command)).expect("JSON");
    all[0].clone()
}

/// A host with a bridge `br` that is up; its index, and a socket inside.
fn with_bridge() -> (Host, Netlink, u32) {
    let host = Host::new("a");
    let (netlink, index) = host.run(|| {
        let mut netlink = Netlink::open().expect("netlink");
        let request = link::create_bridge("br", Some(1400), false, None);
        netlink.request(&request).expect("bridge");
        let index = index(&mut netlink, "br");
        let up = link::Change {
            up: Some(true),
            ..Default::default()
        };
        netlink.request(&link::change(index, &up)).expect("up");
        (netlink, index)
    });
    (host, netlink, index)
}

#[track_caller]
fn index(netlink: &mut Netlink, name: &str) -> u32 {
    let link = netlink.link_by_name(name).expect("look-up");
    link.unwrap_or_else(|| panic!("no {name}")).index
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn net(text: &str) -> IpNetwork {
    text.parse().expect("network")
}
