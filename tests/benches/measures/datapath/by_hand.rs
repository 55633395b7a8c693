//! The devices of backends, made with `ip`, `bridge` and `wg`; and wireguard-go.

use super::{pair::Pair, processors};
use std::process::Command;
use tests::{Process, peers::built_from_go, process::eventually};

/// `flannel.1` with a neighbour, an FDB entry and a route.
pub(super) fn vxlan(pair: &Pair) -> Vec<Process> {
    let mac = |index: usize| format!("02:00:00:00:00:0{index}");
    for (index, (host, subnet, other, other_ip)) in pair.peers().into_iter().enumerate() {
        let (own, via) = (subnet.replace("/24", ""), other.replace("/24", ""));
        let (own_mac, other_mac) = (mac(index), mac(1 - index));
        host.sh(&format!(
            "ip link add flannel.1 address {own_mac} mtu 1450 type vxlan id 1 dev eth0 \
                 local $(ip -4 -o addr show eth0 | awk '{{ sub(\"/.*\", \"\", $4); print $4 }}') \
                 dstport 8472 nolearning \
             && ip addr add {own}/32 dev flannel.1 && ip link set flannel.1 up \
             && ip neigh add {via} lladdr {other_mac} dev flannel.1 nud permanent \
             && bridge fdb add {other_mac} dev flannel.1 dst {other_ip} self permanent \
             && ip route add {other} via {via} dev flannel.1 onlink"
        ));
    }
    Vec::new()
}

/// A route.
pub(super) fn host_gw(pair: &Pair) -> Vec<Process> {
    for (host, _, other, other_ip) in pair.peers() {
        host.sh(&format!("ip route add {other} via {other_ip} dev eth0"));
    }
    Vec::new()
}

/// `flannel.ipip` with a route.
pub(super) fn ipip(pair: &Pair) -> Vec<Process> {
    for (host, subnet, other, other_ip) in pair.peers() {
        let own = subnet.replace("/24", "");
        host.sh(&format!(
            "ip link add flannel.ipip mtu 1480 type ipip remote any nopmtudisc \
                 local $(ip -4 -o addr show eth0 | awk '{{ sub(\"/.*\", \"\", $4); print $4 }}') \
             && ip addr add {own}/32 dev flannel.ipip && ip link set flannel.ipip up \
             && ip route add {other} via {other_ip} dev flannel.ipip onlink"
        ));
    }
    Vec::new()
}

/// `flannel-wg` in the kernel.
pub(super) fn wireguard(pair: &Pair) -> Vec<Process> {
    for (host, ..) in pair.peers() {
        host.sh("ip link add flannel-wg mtu 1420 type wireguard");
    }
    set_wireguard(pair);
    Vec::new()
}

/// `flannel-wg`, where wireguard-go moves the packets.
pub(super) fn wireguard_go(pair: &Pair) -> Vec<Process> {
    let program = built_from_go("wireguard-go").expect("it is looked for before");
    let start = |(index, (host, ..)): (usize, (&tests::Host, _, _, _))| {
        host.sh("mkdir -p /run/wireguard");
        let mut command = Command::new(program.join("wireguard"));
        command.args(["-f", "flannel-wg"]).env("LOG_LEVEL", "error");
        let process = processors::of_host(index, || host.spawn(command));
        eventually("wireguard-go has its device", super::pair::TIMEOUT, || {
            let shown = host.try_sh("wg show flannel-wg");
            shown.status.success().then_some(())
        });
        process
    };
    let peers = pair.peers().into_iter().enumerate();
    let processes = peers.map(start).collect();
    set_wireguard(pair);
    processes
}

/// Keys, the peer, the address and the route of both hosts' devices.
fn set_wireguard(pair: &Pair) {
    let peers = pair.peers();
    let keys = peers.each_ref().map(|(host, ..)| {
        let made = "umask 077 && wg genkey > /run/key && wg pubkey < /run/key";
        host.sh(made).trim().to_owned()
    });
    for (index, (host, subnet, other, other_ip)) in peers.into_iter().enumerate() {
        let (own, key) = (subnet.replace("/24", ""), &keys[1 - index]);
        host.sh(&format!(
            "wg set flannel-wg listen-port 51820 private-key /run/key \
                 peer {key} endpoint {other_ip}:51820 allowed-ips {other} \
             && ip addr add {own}/32 dev flannel-wg && ip link set flannel-wg mtu 1420 up \
             && ip route add 10.244.0.0/16 dev flannel-wg scope link"
        ));
    }
}
