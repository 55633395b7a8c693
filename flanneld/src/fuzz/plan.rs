//! The fuzz target of other nodes' leases: from JSON to what this node makes of them.

use crate::{
    backend::{Backend, Input, NodeIdentity, PeerLeases, build},
    files::node_state::NodeState,
    model::{lease::Lease, network_config::NetworkConfig, node_record::NodeRecord},
    underlay::{Underlay, UnderlayRoutes},
};
use ipnetwork::IpNetwork;
use linux_net::route::Route;
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, LazyLock},
};

const CONFIG: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48",
    "Backend":{"Type":"vxlan","DirectRouting":true}}"#;
const OWN: &str = r#"{"Subnet":"10.244.1.0/24","IPv6Subnet":"fd00:10:244:1::/64","Attrs":{
    "PublicIP":"172.31.0.1","PublicIPv6":"fd31::1","BackendType":"vxlan"}}"#;
const INDEX: u32 = 2;

struct Node {
    config: NetworkConfig,
    backend: Arc<dyn Backend>,
    own: Lease,
    underlay: Underlay,
    routes: UnderlayRoutes,
}

static NODE: LazyLock<Option<Node>> = LazyLock::new(node);

fn node() -> Option<Node> {
    let config = NetworkConfig::parse(CONFIG).ok()?;
    let mut identity = NodeIdentity {
        state: &mut NodeState::load(Path::new("/nonexistent/node.json")),
        links: &[],
        record: &NodeRecord::default(),
        run_folder: Path::new("/nonexistent"),
    };
    let mut on_link = Route::new("172.31.0.0/24".parse().ok()?);
    on_link.oif = Some(INDEX);
    Some(Node {
        backend: build(&config, &mut identity).ok()?,
        config,
        own: go_compat::json::from_slice(OWN.as_bytes()).ok()?,
        underlay: Underlay {
            index: INDEX,
            name: "eth0".to_owned(),
            mtu: 1500,
            address: Some(Ipv4Addr::new(172, 31, 0, 1)),
            address_v6: Some(Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, 1)),
            public_ip: Some(Ipv4Addr::new(172, 31, 0, 1)),
            public_ipv6: Some(Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, 1)),
        },
        routes: UnderlayRoutes::new(&[on_link], |_| false),
    })
}

/// Leases, a line each. Peers are in the network, do not overlap each other or this node, and a
/// reason for a lease that is skipped is one line.
pub fn peers(bytes: &[u8]) {
    let node = NODE.as_ref();
    assert!(node.is_some(), "the constants can be read");
    let Some(node) = node else { return };
    let lines = bytes.split(|byte| *byte == b'\n');
    let leases = lines.filter_map(|line| go_compat::json::from_slice::<Lease>(line).ok());
    let leases: Vec<_> = leases.map(Arc::new).collect();
    let mut decoded = PeerLeases::default();
    decoded.update(&*node.backend, &Arc::new(leases));
    let plan = node.backend.plan(&Input {
        config: &node.config,
        underlay: &node.underlay,
        own: &node.own,
        leases: &decoded,
        routes: &node.routes,
    });
    let mut taken: BTreeSet<IpNetwork> = BTreeSet::new();
    for peer in &plan.peers {
        let (subnet, networks) = (peer.subnet, node.config.networks());
        let mut networks = networks.map(|(_, network)| network);
        let of_network = networks.any(|network| {
            network.contains(subnet.network()) && network.prefix() <= subnet.prefix()
        });
        assert!(of_network, "{peer:?} is outside");
        assert_eq!(subnet.ip(), subnet.network());
        let own = [
            node.own.subnets.v4.map(Into::into),
            node.own.subnets.v6.map(Into::into),
        ];
        for other in own.into_iter().flatten().chain(taken.iter().copied()) {
            let overlaps = other.contains(subnet.ip()) || subnet.contains(other.ip());
            assert!(!overlaps, "{subnet} and {other}");
        }
        taken.insert(subnet);
        assert!(!peer.public_ip.is_multicast() && !peer.public_ip.is_loopback());
    }
    for device in plan.state.devices.values() {
        let macs: BTreeSet<_> = device.fdb.iter().map(|(mac, _)| mac).collect();
        assert!(macs.len() <= device.fdb.len());
        assert!(macs.iter().all(|mac| mac.0[0] & 1 == 0), "{macs:?}");
    }
    for skipped in &plan.skipped {
        let text = skipped.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() < 2000, "{text}");
    }
}
