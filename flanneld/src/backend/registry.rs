//! Every backend type: how it is built, and how its devices are recognised.

use super::{
    Backend, Error, alloc,
    backend_type::{BackendType, Meaning, NodeIdentity},
    extension, host_gw, ipip, ipsec, udp, vxlan, wireguard,
};
use crate::model::network_config::NetworkConfig;
use linux_net::link::Link;
use std::sync::Arc;

pub(super) static TYPES: [BackendType; 8] = [
    udp::TYPE,
    vxlan::TYPE,
    host_gw::TYPE,
    ipip::TYPE,
    ipsec::TYPE,
    wireguard::TYPE,
    alloc::TYPE,
    extension::TYPE,
];

/// Types of earlier versions of Go flannel, which wrote the routes of a cloud's network.
const CLOUDS: [&str; 4] = ["ali-vpc", "aws-vpc", "gce", "tencent-vpc"];

/// Builds the backend that the configuration names.
pub(crate) fn build(
    config: &NetworkConfig,
    node: &mut NodeIdentity<'_>,
) -> Result<Arc<dyn Backend>, Error> {
    (named(config)?.build)(config, node)
}

/// Checks the keys of `Backend` as [`build`] does, and says what they mean.
pub(crate) fn check(config: &NetworkConfig) -> Result<Meaning, Error> {
    (named(config)?.check)(config)
}

/// The keys of `Backend` that this backend has, besides `Type`.
pub(crate) fn keys(config: &NetworkConfig) -> &'static [&'static str] {
    named(config).map_or(&[], |backend| backend.keys)
}

fn named(config: &NetworkConfig) -> Result<&'static BackendType, Error> {
    let mut types = TYPES.iter();
    let named = types.find(|backend| backend.name == config.backend_type);
    named.ok_or_else(|| Error::UnknownType {
        name: config.backend_type.clone(),
        known: TYPES.each_ref().map(|backend| backend.name).join(", "),
        hint: match CLOUDS.contains(&config.backend_type.as_str()) {
            true => "; for the routes of a cloud: docs/cloud-routes.md",
            false => "",
        },
    })
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
