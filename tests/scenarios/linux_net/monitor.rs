//! Notifications of rtnetlink.

use linux_net::{
    Netlink, link,
    monitor::{Event, Monitor, RouteChange},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};
use tests::{Host, scenario};

/// Reads events until one is as wanted.
#[track_caller]
fn until(monitor: &mut Monitor, what: &str, wanted: impl Fn(&Event) -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut seen = Vec::new();
    while Instant::now() < end {
        let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100u16)).expect("poll");
        let events = monitor.events().expect("events");
        if events.iter().any(&wanted) {
            return;
        }
        seen.extend(events);
    }
    panic!("no event: {what}; but {seen:#?}");
}

#[scenario]
fn monitor_sees_each_kind_of_change() {
    let host = Host::new("a");
    let mut monitor = host.run(|| Monitor::open().expect("monitor"));
    assert_eq!(
        monitor.events().expect("events"),
        [],
        "no event, no blocking"
    );
    let mut step = |command: &str, wanted: &dyn Fn(&Event) -> bool| {
        host.sh(command);
        until(&mut monitor, command, wanted);
    };
    step(
        "ip link add v1 type vxlan id 1 dstport 8472 && ip link set v1 up",
        &|event| {
            matches!(event, Event::Link(link) if link.name == "v1" && link.up
            && matches!(&link.kind, link::Kind::Vxlan(vxlan) if vxlan.vni == 1))
        },
    );
    step(
        "ip addr add 10.0.0.1/24 dev v1",
        &|event| matches!(event, Event::Address(address, true) if address.net.to_string() == "10.0.0.1/24"),
    );
    step(
        "ip addr add fd00::1/64 dev v1 nodad",
        &|event| matches!(event, Event::Address(address, true) if address.net.to_string() == "fd00::1/64"),
    );
    step(
        "ip route add 10.9.0.0/16 via 10.0.0.9",
        &|event| matches!(event, Event::Route(route, RouteChange::Added) if route.dst.to_string() == "10.9.0.0/16"),
    );
    step(
        "ip route del 10.9.0.0/16",
        &|event| matches!(event, Event::Route(route, RouteChange::Deleted) if route.dst.to_string() == "10.9.0.0/16"),
    );
    // what is replaced, or gets company, is not notified by itself
    step(
        "ip route add 10.9.0.0/16 via 10.0.0.9 && ip route replace blackhole 10.9.0.0/16",
        &|event| matches!(event, Event::Route(route, RouteChange::Replaced) if route.dst.to_string() == "10.9.0.0/16"),
    );
    step(
        "ip route append 10.9.0.0/16 via 10.0.0.8",
        &|event| matches!(event, Event::Route(route, RouteChange::Appended) if route.gateway.is_some()),
    );
    step(
        "ip route prepend 10.9.0.0/16 via 10.0.0.7",
        &|event| matches!(event, Event::Route(route, RouteChange::Added) if route.gateway.is_some()),
    );
    step(
        "ip route flush 10.9.0.0/16 && ip -6 route add fd98::/64 via fd00::9 && ip -6 route append fd98::/64 via fd00::8",
        &|event| matches!(event, Event::Route(route, RouteChange::Appended) if route.dst.to_string() == "fd98::/64"),
    );
    step(
        "ip -6 route flush fd98::/64 && ip -6 route add fd97::/64 via fd00::9 && ip -6 route replace fd97::/64 via fd00::8",
        &|event| matches!(event, Event::Route(route, RouteChange::Replaced) if route.dst.to_string() == "fd97::/64"),
    );
    step(
        "ip route add fd99::/64 via fd00::9",
        &|event| matches!(event, Event::Route(route, RouteChange::Added) if route.dst.to_string() == "fd99::/64"),
    );
    step(
        "ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev v1",
        &|event| matches!(event, Event::Neighbour(entry, true) if entry.ip.to_string() == "10.0.0.9" && entry.is_permanent()),
    );
    step("ip neigh del 10.0.0.9 dev v1", &|event| {
        // the kernel first notifies that it failed, then that it is deleted
        matches!(event, Event::Neighbour(entry, false) if entry.ip.to_string() == "10.0.0.9")
    });
    step(
        "bridge fdb add 02:00:00:00:00:09 dev v1 dst 192.0.2.9",
        &|event| matches!(event, Event::Fdb(entry, true) if entry.dst.is_some_and(|dst| dst.to_string() == "192.0.2.9")),
    );
    step(
        "bridge fdb del 02:00:00:00:00:09 dev v1",
        &|event| matches!(event, Event::Fdb(entry, false) if entry.mac.to_string() == "02:00:00:00:00:09"),
    );
    step("ip addr del 10.0.0.1/24 dev v1", &|event| {
        matches!(event, Event::Address(_, false))
    });
    // a link that leaves a bridge is not deleted
    host.sh("ip link add sw type bridge && ip link set v1 master sw && ip link set v1 nomaster");
    // older kernels repeat a request besides, without the entry's destination
    host.sh("bridge fdb add 02:00:00:00:00:08 dev v1 dst 192.0.2.9 && bridge fdb replace 02:00:00:00:00:08 dev v1 dst 192.0.2.9");
    host.sh("ip link add last type bridge");
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|event| matches!(event, Event::Link(link) if link.name == "last"))
    {
        seen.extend(monitor.events().expect("events"));
    }
    assert!(
        !seen
            .iter()
            .any(|event| matches!(event, Event::LinkGone { .. })),
        "{seen:#?}"
    );
    let is_added = |event: &&Event| matches!(event, Event::Fdb(entry, true) if entry.mac.to_string() == "02:00:00:00:00:08");
    assert_eq!(seen.iter().filter(is_added).count(), 1, "{seen:#?}");
    host.sh("ip link del v1");
    until(
        &mut monitor,
        "deleted",
        |event| matches!(event, Event::LinkGone { name, .. } if name == "v1"),
    );
}

#[scenario]
fn monitor_reports_lost_notifications() {
    let host = Host::new("a");
    let (mut monitor, mut netlink) = host.run(|| {
        (
            Monitor::open().expect("monitor"),
            Netlink::open().expect("netlink"),
        )
    });
    // more changes than the buffer holds
    netlink
        .request(&link::create_bridge("br", None, false, None))
        .expect("bridge");
    let index = super::index(&mut netlink, "br");
    let mtu = |mtu| {
        link::change(
            index,
            &link::Change {
                mtu: Some(mtu),
                ..Default::default()
            },
        )
    };
    let requests: Vec<_> = (0..20_000).map(|number| mtu(1400 + number % 2)).collect();
    assert!(netlink.batch(&requests).iter().all(Result::is_ok));
    let mut seen = Vec::new();
    loop {
        let events = monitor.events().expect("events");
        if events.is_empty() {
            break;
        }
        seen.extend(events);
    }
    assert!(
        seen.contains(&Event::Overrun),
        "{} events, no overrun",
        seen.len()
    );
    // the monitor is still usable
    host.sh("ip link add after type bridge");
    until(
        &mut monitor,
        "after",
        |event| matches!(event, Event::Link(link) if link.name == "after"),
    );
}
