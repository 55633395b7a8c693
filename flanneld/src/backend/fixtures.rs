//! Backends and configurations for unit tests.

use super::{Backend, Error, NodeIdentity, PeerLeases, build};
use crate::{
    files::node_state::NodeState,
    model::{lease::Lease, network_config::NetworkConfig, node_record::NodeRecord},
};
use linux_net::Mac;
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
