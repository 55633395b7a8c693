//! Backends and configurations for unit tests.

use super::{Backend, Error, NodeIdentity, PeerLeases, build};
use crate::{
    files::node_state::NodeState,
    model::{
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    underlay::{Underlay, UnderlayRoutes},
};
use linux_net::{Mac, route::Route};
use std::{path::Path, sync::Arc};

/// This node's MAC on every device.
pub(crate) const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A dual-stack network with this value of `Backend`.
pub(crate) fn config(backend: &str) -> NetworkConfig {
    NetworkConfig::parse(&format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{backend}}}"#
    ))
    .unwrap()
}

/// The backend of a configuration, on a node whose devices have [`OWN_MAC`].
pub(crate) fn backend(config: &NetworkConfig) -> Result<Arc<dyn Backend>, Error> {
    let mut state = NodeState::load(Path::new("/nonexistent/node.json"));
    for vni in [1, 5, 7] {
        for name in ["flannel", "flannel-v6"] {
            state
                .mac(&format!("{name}.{vni}"), [Some(OWN_MAC), None])
                .unwrap();
        }
    }
    build(
        config,
        &mut NodeIdentity {
            state: &mut state,
            links: &[],
            record: &NodeRecord::default(),
            run_folder: Path::new("/nonexistent"),
        },
    )
}

/// `{"Type":"vxlan"}` with defaults.
pub(crate) fn vxlan() -> Arc<dyn Backend> {
    backend(&config(r#"{"Type":"vxlan"}"#)).unwrap()
}

/// A snapshot, decoded.
pub(crate) fn decoded(backend: &dyn Backend, leases: &[Lease]) -> PeerLeases {
    let mut decoded = PeerLeases::default();
    let leases = leases.iter().cloned().map(Arc::new).collect();
    decoded.update(backend, &Arc::new(leases));
    decoded
}

/// eth0 with the addresses 172.31.0.1 and fd31::1, which peers use too.
pub(crate) fn underlay() -> Underlay {
    Underlay {
        index: 2,
        name: "eth0".to_owned(),
        mtu: 1500,
        address: Some([172, 31, 0, 1].into()),
        address_v6: Some("fd31::1".parse().unwrap()),
        public_ip: Some([172, 31, 0, 1].into()),
        public_ipv6: Some("fd31::1".parse().unwrap()),
    }
}

/// The dual-stack lease of node `number` with a backend that publishes no data.
pub(crate) fn lease(number: u8, backend_type: &str) -> Lease {
    let subnets = format!("10.244.{number}.0-24&fd00:10:244:{number}::-64");
    Lease {
        subnets: subnets.parse().unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some([172, 31, 0, number].into()),
            public_ipv6: Some(format!("fd31::{number}").parse().unwrap()),
            backend_type: backend_type.to_owned(),
            ..LeaseAttrs::default()
        },
        expiration: None,
    }
}

/// The host's routes where these networks are on the link of eth0 and all others behind a router.
pub(crate) fn on_link(networks: &[&str]) -> UnderlayRoutes {
    let mut routes = Vec::new();
    for network in networks {
        let mut route = Route::new(network.parse().unwrap());
        route.oif = Some(2);
        routes.push(route);
    }
    for (network, gateway) in [("0.0.0.0/0", "172.31.0.254"), ("::/0", "fd31::fe")] {
        let mut route = Route::new(network.parse().unwrap());
        (route.oif, route.gateway) = (Some(2), Some(gateway.parse().unwrap()));
        routes.push(route);
    }
    UnderlayRoutes::new(&routes, |_| false)
}
