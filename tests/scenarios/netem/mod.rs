//! Networks that lose, delay and reorder packets, and paths with a smaller MTU: pods reach each
//! other, streams arrive as they were sent, and nodes join.

mod loss;
mod small_mtu;

use crate::etcd::cluster::Cluster;
use tests::{
    Case, Pod, case,
    charon::without_charon,
    etcd::without_etcd,
    kernel::{without_esp, without_ipip, without_netem, without_wireguard},
    subnet_env, transfer,
};

/// A network, by the name that its scenarios have. All have both families.
#[derive(Clone, Copy)]
struct Network {
    name: &'static str,
    /// Members of `Backend`.
    backend: &'static str,
    /// `Backend` has the key `MTU`.
    has_mtu: bool,
}

impl Network {
    fn net_conf(&self, more_keys: &str) -> String {
        let Network { backend, .. } = self;
        format!(
            r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{{backend}{more_keys}}}}}"#
        )
    }

    /// A case with this network.
    fn case(self, name: &str, run: fn(Network)) -> Case {
        case(&format!("{}_{name}", self.name), move || run(self))
    }
}

const VXLAN: Network = Network {
    name: "vxlan",
    backend: r#""Type":"vxlan""#,
    has_mtu: true,
};
const HOST_GW: Network = Network {
    name: "host_gw",
    backend: r#""Type":"host-gw""#,
    has_mtu: false,
};
const UDP: Network = Network {
    name: "udp",
    backend: r#""Type":"udp""#,
    has_mtu: true,
};
const WIREGUARD: Network = Network {
    name: "wireguard",
    backend: r#""Type":"wireguard""#,
    has_mtu: true,
};
const IPIP: Network = Network {
    name: "ipip",
    backend: r#""Type":"ipip""#,
    has_mtu: false,
};
const IPSEC: Network = Network {
    name: "ipsec",
    backend: r#""Type":"ipsec","PSK":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#,
    has_mtu: false,
};

fn without_netem_and_etcd() -> Option<String> {
    without_netem()
        .or_else(without_etcd)
        .or_else(without_charon)
}

fn without_tunnels_and_etcd() -> Option<String> {
    without_wireguard()
        .or_else(without_ipip)
        .or_else(without_esp)
        .or_else(without_charon)
        .or_else(without_etcd)
}

/// Every packet is a packet: the kernel does not hand over 64 KiB at once, which would be lost at
/// once.
fn without_offloads(pod: &Pod<'_>) {
    pod.sh("ethtool -K eth0 tso off gso off gro off");
}

/// A stream to each address of the other node's pod, in one direction.
#[track_caller]
fn transfer(cluster: &Cluster, from: &Pod<'_>, to: (usize, &Pod<'_>), bytes: usize) {
    for ip in subnet_env::pod_addresses(cluster.host(to.0)) {
        transfer::tcp(from, to.1, &ip, bytes, STALLED)
            .unwrap_or_else(|error| panic!("{} of {} to {ip}: {error}", from.name, from.host.name));
    }
}

/// Nothing moves for this long: retransmissions back off to some seconds.
const STALLED: std::time::Duration = std::time::Duration::from_secs(20);
