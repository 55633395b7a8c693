//! Every backend type: how it is built, and how its devices are recognised. Devices of types that
//! only Go flannel has are recognised too, so that a node that ran it can be cleaned.
use super::{Backend, Error, vxlan};
use crate::{files::node_state::NodeState, model::network_config::NetworkConfig};
use linux_net::{
    Mac,
    link::{Kind, Link},
};
use std::{io, sync::Arc};

/// A backend type.
pub(super) struct BackendType {
    /// `Backend.Type` in lower case.
    pub(super) name: &'static str,
    /// None for a type that this build does not have.
    pub(super) build: Option<Build>,
    /// True if the type creates such a device, under any configuration.
    pub(super) owns_device: fn(&Link) -> bool,
}

/// Builds a backend from the network configuration and what identifies this node.
pub(super) type Build =
    fn(&NetworkConfig, &mut NodeIdentity<'_>) -> Result<Arc<dyn Backend>, Error>;

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

/// What peers know this node by and must find again after a restart.
pub(crate) struct NodeIdentity<'a> {
    pub(crate) state: &'a mut NodeState,
    /// The host's links.
    pub(crate) links: &'a [Link],
}

impl NodeIdentity<'_> {
    /// The MAC of the device with that name: the one it has, else the remembered one, else a new one.
    /// Peers learn it before the device is created. `is_ours` tells devices of the backend's kind.
    pub(super) fn mac(&mut self, name: &str, is_ours: fn(&Kind) -> bool) -> io::Result<Mac> {
        let link = self.links.iter().find(|link| link.name == name);
        let on_device = link
            .filter(|link| is_ours(&link.kind))
            .and_then(|link| link.mac);
        self.state.mac(name, on_device)
    }
}

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
