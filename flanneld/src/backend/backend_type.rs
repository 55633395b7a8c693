//! What every backend type gives to the registry, and what it is built from.

use super::{Backend, Error};
use crate::{
    files::node_state::NodeState,
    model::{network_config::NetworkConfig, node_record::NodeRecord},
};
use linux_net::{
    Mac,
    link::{Kind, Link},
};
use std::{io, path::Path, sync::Arc};

/// A backend type.
pub(super) struct BackendType {
    /// `Backend.Type` in lower case.
    pub(super) name: &'static str,
    pub(super) build: Build,
    /// The keys of `Backend` besides `Type`.
    pub(super) keys: &'static [&'static str],
    /// Checks the keys of `Backend`, and says what they mean.
    pub(super) check: fn(&NetworkConfig) -> Result<Meaning, Error>,
    /// True if the type creates such a device, under any configuration.
    pub(super) owns_device: fn(&Link) -> bool,
}

/// What the keys of `Backend` mean.
#[derive(Debug)]
pub(crate) struct Meaning {
    /// For people.
    pub(crate) text: String,
    /// The names of the devices.
    pub(crate) devices: Vec<String>,
}

/// Builds a backend from the network configuration and what identifies this node.
pub(super) type Build =
    fn(&NetworkConfig, &mut NodeIdentity<'_>) -> Result<Arc<dyn Backend>, Error>;

/// What peers know this node by and must find again after a restart.
pub(crate) struct NodeIdentity<'a> {
    pub(crate) state: &'a mut NodeState,
    /// The host's links.
    pub(crate) links: &'a [Link],
    /// What the store says of this node.
    pub(crate) record: &'a NodeRecord,
    /// The folder of subnet.env, for what does not outlive a reboot.
    pub(crate) run_folder: &'a Path,
}

impl NodeIdentity<'_> {
    /// The MAC of the device with that name: the one it has, else the one that this node published
    /// last, else the remembered one, else a new one. Peers learn it before the device is created.
    /// `is_ours` selects the backend's kind.
    pub(super) fn mac(
        &mut self,
        name: &str,
        is_ours: fn(&Kind) -> bool,
        published: Option<Mac>,
    ) -> io::Result<Mac> {
        let link = self.links.iter().find(|link| link.name == name);
        let on_device = link
            .filter(|link| is_ours(&link.kind))
            .and_then(|link| link.mac);
        self.state.mac(name, [on_device, published])
    }
}
