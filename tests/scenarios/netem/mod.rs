//! Networks that lose, delay and reorder packets, and paths with a smaller MTU: pods reach each
//! other, streams arrive as they were sent, and nodes join.

mod loss;
mod small_mtu;

use crate::etcd::cluster::Cluster;
use tests::{Case, Pod, case, etcd::without_etcd, kernel::without_netem, subnet_env, transfer};

/// A network, by the name that its scenarios have.
#[derive(Clone, Copy)]
struct Network {
    name: &'static str,
    /// JSON of `Backend`.
    backend: &'static str,
    /// With IPv6.
    dual: bool,
}

impl Network {
    fn net_conf(&self) -> String {
        self.net_conf_with(self.backend)
    }

    fn net_conf_with(&self, backend: &str) -> String {
        let v6 = match self.dual {
            true => r#""EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","#,
            false => "",
        };
        format!(r#"{{"Network":"10.244.0.0/16",{v6}"EnableNFTables":true,"Backend":{backend}}}"#)
    }

    /// A case with this network.
    fn case(self, name: &str, run: fn(Network)) -> Case {
        case(&format!("{}_{name}", self.name), move || run(self))
    }
}

const VXLAN: Network = Network {
    name: "vxlan",
    backend: r#"{"Type":"vxlan"}"#,
    dual: true,
};
const HOST_GW: Network = Network {
    name: "host_gw",
    backend: r#"{"Type":"host-gw"}"#,
    dual: true,
};
const WIREGUARD: Network = Network {
    name: "wireguard",
    backend: r#"{"Type":"wireguard"}"#,
    dual: true,
};

fn without_netem_and_etcd() -> Option<String> {
    without_netem().or_else(without_etcd)
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
