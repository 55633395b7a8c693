//! The devices of backends that the kernel implements, made with `ip` and `bridge`.

use super::pair::Pair;

/// `flannel.1` with a neighbour, an FDB entry and a route.
pub(super) fn vxlan(pair: &Pair) {
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
}

/// A route.
pub(super) fn host_gw(pair: &Pair) {
    for (host, _, other, other_ip) in pair.peers() {
        host.sh(&format!("ip route add {other} via {other_ip} dev eth0"));
    }
}
