//! What this daemon made under an earlier configuration: it goes when the configuration changes.

use crate::{
    backend::{self, Backend},
    files::node_state::{Made, NodeState},
    model::{Family, Subnets, host_state::DeviceName, lease::Lease, network_config::NetworkConfig},
    reconcile::Earlier,
    underlay::HostNetwork,
};
use ipnetwork::IpNetwork;
use linux_net::link::Link;
use std::path::Path;
use subnet_env::Previous;

/// Finds what is left of earlier configurations, and records what this one makes. `previous` is
/// the content of subnet.env, which proves what a daemon without such a record made, Go's
/// included.
pub(super) fn record(
    node: &mut NodeState,
    subnet_file: &Path,
    previous: &Previous,
    current: (&NetworkConfig, &dyn Backend, &Lease),
    host: &HostNetwork,
) -> Earlier {
    let (config, backend, own) = current;
    let mut made = node.made(subnet_file);
    let families = backend::families(config, own);
    for family in families_of(previous) {
        if !made.families.contains(&family) {
            made.families.push(family);
        }
    }
    let earlier = earlier(&made, backend.device_names(), previous, host);
    made.families.retain(|family| !families.contains(family));
    let earlier_families = made.families.clone();
    made.families.extend(families);
    made.devices = earlier.iter().map(|name| name.to_string()).collect();
    let current = backend.device_names().iter();
    made.devices.extend(current.map(|name| name.to_string()));
    node.set_made(subnet_file, made);
    Earlier {
        devices: earlier,
        families: earlier_families,
    }
}

fn families_of(previous: &Previous) -> impl Iterator<Item = Family> {
    let family = |network: Option<IpNetwork>, subnet: Option<IpNetwork>| {
        let (network, subnet) = network.zip(subnet)?;
        Some(Family {
            network: go_compat::cidr::masked(network),
            subnet: go_compat::cidr::masked(subnet),
        })
    };
    let v4 = family(previous.network, previous.subnet);
    let v6 = family(previous.ipv6_network, previous.ipv6_subnet);
    v4.into_iter().chain(v6)
}

/// The devices on the host that are this daemon's and that the present configuration does not
/// name: recorded ones, and those with the address that a backend gives to a device for the subnet
/// in subnet.env. Another daemon of this host has other ones.
fn earlier(
    made: &Made,
    current: &[DeviceName],
    previous: &Previous,
    host: &HostNetwork,
) -> Vec<DeviceName> {
    let subnets = Subnets::from(previous);
    let subnets: [Option<IpNetwork>; 2] = [subnets.v4.map(Into::into), subnets.v6.map(Into::into)];
    let has_our_address = |link: &Link| {
        let first = |subnet: &IpNetwork| go_compat::cidr::host(subnet.network());
        let firsts: Vec<_> = subnets.iter().flatten().map(first).collect();
        host.addresses_of(link)
            .any(|address| firsts.contains(&address.net))
    };
    let is_earlier = |link: &&Link| {
        backend::owns_device(link)
            && !current.iter().any(|name| **name == *link.name)
            && (made.devices.contains(&link.name) || has_our_address(link))
    };
    let links = host.links.iter().filter(is_earlier);
    links.map(|link| link.name.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::underlay::fixtures;
    use linux_net::{
        address::AddressFlags,
        link::{Kind, Vxlan},
    };

    fn device(index: u32, vni: u32) -> Link {
        Link {
            kind: Kind::Vxlan(Vxlan {
                vni,
                ..Vxlan::default()
            }),
            ..fixtures::link(index, &format!("flannel.{vni}"))
        }
    }

    #[test]
    fn devices_are_earlier_ones_by_record_or_by_address() {
        let host = HostNetwork {
            links: vec![device(3, 1), device(4, 2), device(5, 3), device(6, 4)],
            addresses: vec![
                fixtures::address(5, "10.244.7.0/32", AddressFlags::Permanent),
                fixtures::address(6, "10.244.8.0/32", AddressFlags::Permanent),
            ],
            ..HostNetwork::default()
        };
        let made = Made {
            devices: ["flannel.1".to_owned(), "flannel.2".to_owned()].into(),
            families: Vec::new(),
        };
        let previous = Previous {
            network: Some("10.244.0.0/16".parse().unwrap()),
            subnet: Some("10.244.7.1/24".parse().unwrap()),
            ..Previous::default()
        };
        let current: [DeviceName; 1] = ["flannel.1".into()];
        let found = earlier(&made, &current, &previous, &host);
        assert_eq!(found, ["flannel.2".into(), "flannel.3".into()]);
    }
}
