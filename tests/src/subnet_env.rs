//! What a flanneld of any make wrote to subnet.env, and pods made by hand from it.

use crate::{Host, Pod, process::eventually};
use ipnetwork::IpNetwork;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

const PATH: &str = "/run/flannel/subnet.env";
const TIMEOUT: Duration = Duration::from_secs(15);

/// A value of the host's subnet.env.
pub fn value(host: &Host, key: &str) -> Option<String> {
    let text = host.sh(&format!("cat {PATH}"));
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_owned)
}

/// The gateways with their prefix lengths: 10.244.7.1/24, fd00:10:244:7::1/64.
fn gateways(host: &Host) -> Vec<IpNetwork> {
    let values = ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"].map(|key| value(host, key));
    let networks = values.into_iter().flatten();
    networks
        .map(|text| text.parse().expect("a subnet"))
        .collect()
}

/// The addresses of the host's [`pod`]: each family's gateway plus one.
pub fn pod_addresses(host: &Host) -> Vec<String> {
    let gateways = gateways(host);
    let addresses = gateways.iter().map(|gateway| pod_address(*gateway));
    addresses.map(|address| address.to_string()).collect()
}

fn pod_address(gateway: IpNetwork) -> IpAddr {
    match gateway.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() + 1).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + 1).into(),
    }
}

/// A pod named `pod` on a bridge cni0, as the plugins would make it.
pub fn pod(host: &Host) -> Pod<'_> {
    let pod = host.pod("pod");
    // The kernel asks for the neighbour of a forwarded IPv6 packet by the bridge's link-local
    // address: duplicate address detection would keep it from that for two seconds.
    host.sh(
        "ip link add cni0 type bridge && echo 0 > /proc/sys/net/ipv6/conf/cni0/accept_dad \
         && ip link set cni0 up \
         && ip link add veth0 type veth peer name eth0 netns pod \
         && ip link set veth0 master cni0 up && ip -n pod link set eth0 up",
    );
    for gateway in gateways(host) {
        let nodad = if gateway.is_ipv6() { "nodad" } else { "" };
        host.sh(&format!(
            "ip addr add {gateway} dev cni0 {nodad} \
             && ip -n pod addr add {}/{} dev eth0 {nodad} \
             && ip -n pod route add default via {}",
            pod_address(gateway),
            gateway.prefix(),
            gateway.ip()
        ));
    }
    pod
}

/// The pod that [`pod`] made.
pub fn made_pod(host: &Host) -> Pod<'_> {
    Pod {
        name: "pod".to_owned(),
        host,
    }
}

/// The pod pings every address of the other host's pod, through two routers; fails without an
/// answer.
#[track_caller]
pub fn ping(from: &Pod<'_>, to: &Host) {
    for ip in pod_addresses(to) {
        let answer = from.sh(&format!("ping -n -c1 -W3 {ip}"));
        assert!(
            answer.contains("ttl=62 "),
            "{} to {ip}: {answer}",
            from.host.name
        );
    }
}

/// The same, where the other side may need a moment to learn of this one. Each end of the backend
/// udp is a further router.
#[track_caller]
pub fn eventually_pings(from: &Pod<'_>, to: &Host) {
    for ip in pod_addresses(to) {
        eventually(&format!("{} pings {ip}", from.host.name), TIMEOUT, || {
            let answer = from.try_sh(&format!("ping -n -c1 -W1 {ip}"));
            let answer = String::from_utf8_lossy(&answer.stdout);
            (answer.contains("ttl=62 ") || answer.contains("ttl=60 ")).then_some(())
        });
    }
}
