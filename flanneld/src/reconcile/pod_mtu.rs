//! Pods whose MTU exceeds what the path to other nodes takes: those that started under another
//! configuration, or before the MTU of the underlay shrank. A pod keeps its MTU until it is started
//! anew.

use crate::{counted::counted, model::Family, underlay::HostNetwork};
use linux_net::link::{Kind, Link};
use std::fmt;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodMtuExcess {
    /// The bridge that the pods are on.
    bridge: String,
    /// How many of its ports exceed the path's MTU.
    ports: usize,
    /// The largest MTU among them, in bytes.
    largest: u32,
    /// What the path takes (FLANNEL_MTU), in bytes.
    path: u32,
}

/// Looks at the ports of each bridge that has an address in this node's subnets: the CNI plugin of
/// that name makes it.
pub(super) fn excess(host: &HostNetwork, families: &[Family], path: u32) -> Option<PodMtuExcess> {
    let bridges = host.links.iter().filter(|link| {
        let is_bridge = matches!(link.kind, Kind::Bridge { .. });
        is_bridge && has_gateway(host, families, link)
    });
    let of_bridge = |bridge: &Link| {
        let ports = host.links.iter();
        let ports = ports.filter(|link| link.master == Some(bridge.index) && link.mtu > path);
        let mtus: Vec<u32> = ports.map(|link| link.mtu).collect();
        Some(PodMtuExcess {
            bridge: bridge.name.clone(),
            ports: mtus.len(),
            largest: mtus.into_iter().max()?,
            path,
        })
    };
    bridges
        .filter_map(of_bridge)
        .max_by_key(|found| found.largest)
}

fn has_gateway(host: &HostNetwork, families: &[Family], bridge: &Link) -> bool {
    host.addresses_of(bridge).any(|address| {
        let mut families = families.iter();
        families.any(|family| family.subnet.contains(address.net.ip()))
    })
}

impl fmt::Display for PodMtuExcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PodMtuExcess {
            bridge,
            ports,
            largest,
            path,
        } = self;
        let pods = counted(*ports, "interface", "interfaces");
        write!(
            f,
            "{pods} of pods on {bridge} with an MTU of up to {largest}, of which the path to other nodes takes {path}: \
             start these pods anew"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::underlay::fixtures;
    use linux_net::address::AddressFlags;

    fn host(mtus: &[u32]) -> HostNetwork {
        let bridge = Link {
            kind: Kind::Bridge {
                vlan_filtering: false,
            },
            ..fixtures::link(5, "cni0")
        };
        let docker = Link {
            name: "docker0".to_owned(),
            index: 6,
            ..bridge.clone()
        };
        let port = |(at, mtu): (usize, &u32), master| Link {
            mtu: *mtu,
            master: Some(master),
            kind: Kind::Veth,
            ..fixtures::link(20 + at as u32, &format!("veth{at}"))
        };
        let mut links = vec![bridge, docker, port((99, &9000), 6)];
        links.extend(mtus.iter().enumerate().map(|mtu| port(mtu, 5)));
        HostNetwork {
            links,
            addresses: vec![
                fixtures::address(5, "10.244.1.1/24", AddressFlags::Permanent),
                fixtures::address(6, "172.17.0.1/16", AddressFlags::Permanent),
            ],
            ..HostNetwork::default()
        }
    }

    #[test]
    fn ports_of_the_pods_bridge_are_compared_with_the_path() {
        let families = [Family {
            network: "10.244.0.0/16".parse().unwrap(),
            subnet: "10.244.1.0/24".parse().unwrap(),
        }];
        let found = |mtus: &[u32]| excess(&host(mtus), &families, 1430);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[1430, 1280]), None);
        assert_eq!(
            found(&[1430, 1450, 1500]).unwrap().to_string(),
            "2 interfaces of pods on cni0 with an MTU of up to 1500, of which the path to other nodes takes 1430: \
             start these pods anew"
        );
        assert_eq!(excess(&host(&[1500]), &[], 1430), None, "no lease");
    }
}
