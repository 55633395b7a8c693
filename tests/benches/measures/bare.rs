//! The cost of the kernel alone: the same links, addresses and routes by bare netlink requests,
//! without a process.

use linux_net::{NetNs, Netlink, Request, address, link, route};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Creates the bridge `cni0` with an address; its index.
pub(super) fn bridge() -> u32 {
    let mut netlink = Netlink::open().expect("netlink");
    netlink
        .request(&link::create_bridge("cni0", None, false, None))
        .expect("bridge");
    let index = netlink
        .link_by_name("cni0")
        .expect("link")
        .expect("cni0")
        .index;
    netlink
        .request(&address::add(
            index,
            "10.88.0.1/16".parse().expect("cidr"),
            false,
        ))
        .expect("address");
    netlink
        .request(&link::change(
            index,
            &link::Change {
                up: Some(true),
                ..Default::default()
            },
        ))
        .expect("up");
    index
}

/// The requests that an ADD cannot do without.
pub(super) fn attach(bridge: u32, netns: &str, number: usize) -> Duration {
    let start = Instant::now();
    let ns = NetNs::open(Path::new(netns)).expect("namespace");
    let mut host = Netlink::open().expect("netlink");
    let peer = link::VethPeer::named("eth0");
    host.request(&link::create_veth(
        &link::VethPeer::named(&format!("vethbare{number}")),
        None,
        Some(bridge),
        &peer,
        &ns,
    ))
    .expect("veth");
    let mut inside = Netlink::open_in(&ns).expect("netlink");
    let index = inside
        .link_by_name("eth0")
        .expect("link")
        .expect("eth0")
        .index;
    let requests: Vec<Request> = vec![
        address::add(
            index,
            format!("10.88.{}.{}/16", 1 + number / 250, 2 + number % 250)
                .parse()
                .expect("cidr"),
            false,
        ),
        link::change(
            index,
            &link::Change {
                up: Some(true),
                ..Default::default()
            },
        ),
        route::add(&route::Route {
            gateway: Some("10.88.0.1".parse().expect("ip")),
            oif: Some(index),
            ..route::Route::new("0.0.0.0/0".parse().expect("cidr"))
        }),
    ];
    for answer in inside.batch(&requests) {
        answer.expect("inside");
    }
    start.elapsed()
}

/// The requests that a DEL cannot do without.
pub(super) fn detach(netns: &str) -> Duration {
    let start = Instant::now();
    let ns = NetNs::open(Path::new(netns)).expect("namespace");
    let mut inside = Netlink::open_in(&ns).expect("netlink");
    inside
        .request(&link::delete_by_name("eth0"))
        .expect("delete");
    start.elapsed()
}
