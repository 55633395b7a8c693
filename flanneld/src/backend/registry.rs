//! Every backend type: how it is built, and how its devices are recognised. Devices of types that
//! only Go flannel has are recognised too, so that a node that ran it can be cleaned.

use super::{
    Backend, Error, alloc,
    backend_type::{BackendType, Meaning, NodeIdentity},
    extension, host_gw, ipip, ipsec, udp, vxlan, wireguard,
};
use crate::model::network_config::NetworkConfig;
use linux_net::link::Link;
use std::sync::Arc;

static TYPES: [BackendType; 8] = [
    udp::TYPE,
    vxlan::TYPE,
    host_gw::TYPE,
    ipip::TYPE,
    ipsec::TYPE,
    wireguard::TYPE,
    alloc::TYPE,
    extension::TYPE,
];

/// Builds the backend that the configuration names.
pub(crate) fn build(
    config: &NetworkConfig,
    node: &mut NodeIdentity<'_>,
) -> Result<Arc<dyn Backend>, Error> {
    match named(config).and_then(|backend| backend.build) {
        Some(build) => build(config, node),
        None => Err(unknown_type(config)),
    }
}

/// Checks the keys of `Backend` as [`build`] does, and says what they mean.
pub(crate) fn check(config: &NetworkConfig) -> Result<Meaning, Error> {
    match named(config) {
        Some(backend) => (backend.check)(config),
        None => Err(unknown_type(config)),
    }
}

/// The keys of `Backend` that this backend has, besides `Type`.
pub(crate) fn keys(config: &NetworkConfig) -> &'static [&'static str] {
    named(config).map_or(&[], |backend| backend.keys)
}

fn named(config: &NetworkConfig) -> Option<&'static BackendType> {
    TYPES
        .iter()
        .find(|backend| backend.name == config.backend_type)
}

fn unknown_type(config: &NetworkConfig) -> Error {
    let known = TYPES.iter().filter(|backend| backend.build.is_some());
    Error::UnknownType {
        name: config.backend_type.clone(),
        known: known
            .map(|backend| backend.name)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// True if a backend of any type creates such a device: by name, kind and VNI together.
pub(crate) fn owns_device(link: &Link) -> bool {
    TYPES.iter().any(|backend| (backend.owns_device)(link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::underlay::fixtures;
    use linux_net::link::{IpTunnel, Kind, Outer, Vxlan};

    fn link(name: &str, kind: Kind) -> Link {
        Link {
            kind,
            ..fixtures::link(3, name)
        }
    }

    fn vxlan(name: &str, vni: u32) -> Link {
        let vxlan = Vxlan {
            vni,
            ..Vxlan::default()
        };
        link(name, Kind::Vxlan(vxlan))
    }

    fn tunnel(outer: Outer) -> Kind {
        Kind::IpTunnel(IpTunnel::new(outer))
    }

    #[test]
    fn device_is_ours_by_name_kind_and_vni() {
        for own in [
            vxlan("flannel.1", 1),
            vxlan("flannel-v6.4096", 4096),
            link("flannel.ipip", tunnel(Outer::V4)),
            link("flannel.ip6ip6", tunnel(Outer::V6)),
            link("flannel-wg", Kind::Other("wireguard".into())),
        ] {
            assert!(owns_device(&own), "{own:?}");
        }
        let bridge = Kind::Bridge {
            vlan_filtering: false,
        };
        for foreign in [
            vxlan("flannel.1", 2),
            vxlan("vxlan.calico", 1),
            vxlan("flannel.01", 1),
            link("flannel.1", bridge),
            link("flannel.ipip", Kind::Other("sit".into())),
            link("flannel.ipip", tunnel(Outer::V6)),
            link("tunl0", tunnel(Outer::V4)),
            link("ip6tnl0", tunnel(Outer::V6)),
        ] {
            assert!(!owns_device(&foreign), "{foreign:?}");
        }
    }
}
