//! Every backend type: how it is built, and how its devices are recognised. Devices of types that
//! only Go flannel has are recognised too, so that a node that ran it can be cleaned.
use super::{
    Backend, Error,
    backend_type::{BackendType, NodeIdentity},
    vxlan,
};
use crate::model::network_config::NetworkConfig;
use linux_net::link::{Kind, Link};
use std::sync::Arc;

const TYPES: [BackendType; 3] = [
    vxlan::TYPE,
    BackendType {
        name: "wireguard",
        build: None,
        owns_device: |link| {
            matches!(link.name.as_str(), "flannel-wg" | "flannel-wg-v6")
                && link.kind == Kind::Other("wireguard".to_owned())
        },
    },
    BackendType {
        name: "ipip",
        build: None,
        owns_device: |link| {
            link.name == "flannel.ipip" && link.kind == Kind::Other("ipip".to_owned())
        },
    },
];

/// Builds the backend that the configuration names.
pub(crate) fn build(
    config: &NetworkConfig,
    node: &mut NodeIdentity<'_>,
) -> Result<Arc<dyn Backend>, Error> {
    let named = TYPES
        .iter()
        .find(|backend| backend.name == config.backend_type);
    match named.and_then(|backend| backend.build) {
        Some(build) => build(config, node),
        None => {
            let known = TYPES.iter().filter(|backend| backend.build.is_some());
            Err(Error::UnknownType {
                name: config.backend_type.clone(),
                known: known
                    .map(|backend| backend.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
        }
    }
}

/// True if a backend of any type creates such a device: by name, kind and VNI together.
pub(crate) fn owns_device(link: &Link) -> bool {
    TYPES.iter().any(|backend| (backend.owns_device)(link))
}
