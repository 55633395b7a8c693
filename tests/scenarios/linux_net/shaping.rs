//! Traffic control, and VLANs on bridge ports.

use super::{index, with_bridge};
use linux_net::{
    bridge_vlan::{self, PortVlan},
    link,
    tc::{self, Tbf, TcHandle},
};
use std::time::Duration;
use tests::{Host, kernel::without_vlan_filtering, scenario};

#[scenario]
fn token_bucket_is_read_back() {
    let (host, mut netlink, bridge) = with_bridge();
    let tbf = Tbf::new(1_000_000, 100_000, Duration::from_millis(25));
    netlink.request(&tc::add_tbf(bridge, &tbf)).expect("tbf");
    // as the bucket of Debian's Go plugin for the same rate
    let shown = host.sh("tc -d qdisc show dev br");
    let expected =
        "qdisc tbf 1: root refcnt 2 rate 8Mbit burst 100000b/1 mpu 0b lat 25ms linklayer unspec";
    assert!(shown.contains(expected), "{shown}");
    let seen = netlink.qdiscs(bridge).expect("qdiscs");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].kind.as_str(), seen[0].tbf), ("tbf", Some(tbf)));
    assert_eq!(
        (seen[0].handle, seen[0].parent),
        (TcHandle::from(0x10000), TcHandle::ROOT)
    );
    let again = netlink.request(&tc::add_tbf(bridge, &tbf)).unwrap_err();
    assert!(again.is_exists(), "{again}");
    netlink.request(&tc::delete_root(bridge)).expect("delete");
    let seen = netlink.qdiscs(bridge).expect("qdiscs");
    assert!(seen.iter().all(|qdisc| qdisc.tbf.is_none()), "{seen:?}");
    let gone = netlink.request(&tc::delete_root(bridge)).unwrap_err();
    assert!(gone.is_absent(), "{gone}");
    let fast = Tbf::new(5_000_000_000, 4_000_000, Duration::from_millis(25));
    netlink.request(&tc::add_tbf(bridge, &fast)).expect("tbf");
    assert_eq!(netlink.qdiscs(bridge).expect("qdiscs")[0].tbf, Some(fast));
    assert!(host.sh("tc qdisc show dev br").contains("rate 40Gbit"));
}

#[scenario]
fn received_traffic_is_redirected() {
    let (host, mut netlink, _) = with_bridge();
    let pod = host.pod("p");
    host.sh(
        "ip link add v0 type veth peer name eth0 netns p && ip link set v0 up && ip addr add 10.0.0.1/24 dev v0",
    );
    pod.sh("ip link set eth0 up && ip addr add 10.0.0.2/24 dev eth0");
    netlink
        .request(&link::create_ifb("bwp0", Some(1400)))
        .expect("ifb");
    host.sh("ip link set bwp0 up");
    let (v0, ifb) = (index(&mut netlink, "v0"), index(&mut netlink, "bwp0"));
    let requests = [tc::add_ingress(v0), tc::redirect(v0, ifb)];
    for result in netlink.batch(&requests) {
        result.expect("redirect");
    }
    let shown = host.sh("tc filter show dev v0 parent ffff:");
    for part in [
        "protocol all pref 1 u32",
        "*flowid 1:1",
        "match 00000000/00000000 at 0",
        "mirred (Egress Redirect to device bwp0) stolen",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let hook = netlink.qdiscs(v0).expect("qdiscs");
    assert!(
        hook.iter()
            .any(|qdisc| qdisc.kind == "ingress" && qdisc.handle == TcHandle::from(0xffff_0000))
    );
    pod.sh("ping -c2 -i0.1 -W2 10.0.0.1");
    // the pod's packets went through the ifb
    let stats = host.sh("ip -j -s link show bwp0");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    let packets = stats[0]["stats64"]["tx"]["packets"].as_u64();
    assert!(packets.is_some_and(|packets| packets >= 2), "{stats}");
    netlink.request(&tc::delete_ingress(v0)).expect("delete");
    assert_eq!(
        host.sh("tc filter show dev v0 parent ffff: 2>&1 || true")
            .matches("mirred")
            .count(),
        0
    );
}

fn filtering_bridge() -> Result<Host, linux_net::Error> {
    let host = Host::new("a");
    host.run(|| {
        let mut netlink = linux_net::Netlink::open()?;
        netlink.request(&link::create_bridge("br", None, true, None))?;
        netlink.request(&link::create_veth_here("port", "other", None))
    })?;
    host.sh("ip link set port master br");
    Ok(host)
}

fn with_vlan_filtering() -> Option<String> {
    filtering_bridge()
        .is_ok()
        .then(|| "this kernel has VLAN filtering on bridges".to_owned())
}

#[scenario(unless = without_vlan_filtering)]
fn bridge_vlans_are_read_back() {
    let host = filtering_bridge().expect("bridge");
    let mut netlink = host.run(|| linux_net::Netlink::open().expect("netlink"));
    let port = index(&mut netlink, "port");
    assert_eq!(
        netlink.bridge_vlans(port).expect("vlans"),
        [PortVlan::access(1)]
    );
    let trunk = PortVlan {
        last: 300,
        ..PortVlan::tagged(200)
    };
    let requests = [
        bridge_vlan::delete(port, PortVlan::tagged(1)),
        bridge_vlan::add(port, PortVlan::access(100)),
        bridge_vlan::add(port, trunk),
    ];
    for result in netlink.batch(&requests) {
        result.expect("vlan");
    }
    assert_eq!(
        netlink.bridge_vlans(port).expect("vlans"),
        [PortVlan::access(100), trunk]
    );
    let shown = host.sh("bridge vlan show dev port");
    assert!(
        shown.contains("100 PVID Egress Untagged") && shown.contains("300"),
        "{shown}"
    );
}

#[scenario(unless = with_vlan_filtering)]
fn bridge_vlans_without_kernel_support_are_refused() {
    let (_host, mut netlink, bridge) = with_bridge();
    netlink
        .request(&link::create_veth_here("port", "other", None))
        .expect("veth");
    let port = index(&mut netlink, "port");
    let change = link::Change {
        master: Some(bridge),
        ..Default::default()
    };
    netlink
        .request(&link::change(port, &change))
        .expect("master");
    let text = netlink
        .request(&bridge_vlan::add(port, PortVlan::access(100)))
        .unwrap_err()
        .to_string();
    let expected = format!("add vlan 100 pvid untagged to bridge port {port}: ");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(netlink.bridge_vlans(port).expect("vlans"), []);
}
