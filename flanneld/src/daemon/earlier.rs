//! What this daemon made under an earlier configuration: it goes when the configuration changes,
//! its backend once no other node uses it.

use crate::{
    backend::{self, Backend, NodeIdentity},
    best_effort::best_effort,
    files::node_state::{Made, NodeState},
    model::{
        Family, Subnets, host_state::DeviceName, lease::Lease, network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    reconcile::Earlier,
    underlay::HostNetwork,
};
use ipnetwork::IpNetwork;
use linux_net::link::Link;
use serde_json::{Map, Value};
use std::{path::Path, sync::Arc};
use subnet_env::Previous;
use tracing::info;

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
    let kept = backends(node, &made, config, backend, (host, subnet_file));
    let (values, backends): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let in_use = backends.iter().flat_map(|backend| backend.device_names());
    let in_use = in_use.chain(backend.device_names());
    let in_use: Vec<_> = in_use.cloned().collect();
    let earlier = earlier(&made, &in_use, previous, host);
    made.families.retain(|family| !families.contains(family));
    let earlier_families = made.families.clone();
    made.families.extend(families);
    made.devices = earlier.iter().map(|name| name.to_string()).collect();
    made.devices
        .extend(in_use.iter().map(|name| name.to_string()));
    made.backends = values;
    made.backends.push(value_of(config));
    node.set_made(subnet_file, made);
    Earlier {
        devices: earlier,
        families: earlier_families,
        backends,
    }
}

/// `Backend` with its type, which upstream's default leaves out.
fn value_of(config: &NetworkConfig) -> Map<String, Value> {
    let mut value = config.backend.clone();
    if value.is_empty() {
        value.insert("Type".to_owned(), config.backend_type.as_str().into());
    }
    value
}

/// `Backend`, and what it means.
type Built = (Map<String, Value>, Arc<dyn Backend>);

/// The backends of earlier configurations that this host still has, as `Backend` and built. One
/// whose devices are those of the current backend is that backend under other keys. Keys of IPsec
/// and commands are the current backend's only.
fn backends(
    node: &mut NodeState,
    made: &Made,
    config: &NetworkConfig,
    current: &dyn Backend,
    (host, subnet_file): (&HostNetwork, &Path),
) -> Vec<Built> {
    let mut kept: Vec<Built> = Vec::new();
    let is_there = |name: &DeviceName| host.links.iter().any(|link| *link.name == **name);
    // the latest first: of two with the same devices it counts
    for value in made.backends.iter().rev() {
        let Some(earlier) = build(node, config, (value, subnet_file), host) else {
            continue;
        };
        let names = earlier.device_names();
        let is_same =
            |other: &dyn Backend| (other.name(), other.device_names()) == (earlier.name(), names);
        let is_known = is_same(current) || kept.iter().any(|(_, other)| is_same(&**other));
        let stays = !earlier.negotiates_keys() && earlier.commands().is_none();
        if stays && !is_known && (names.is_empty() || names.iter().any(is_there)) {
            info!(
                "keeping the backend {} of an earlier configuration as long as other nodes use it",
                earlier.name()
            );
            kept.push((value.clone(), earlier));
        }
    }
    kept.reverse();
    kept
}

fn build(
    node: &mut NodeState,
    config: &NetworkConfig,
    (value, subnet_file): (&Map<String, Value>, &Path),
    host: &HostNetwork,
) -> Option<Arc<dyn Backend>> {
    let config = best_effort(config.with_backend(value), "its devices go at once")?;
    let mut identity = NodeIdentity {
        state: node,
        links: &host.links,
        record: &NodeRecord::default(),
        run_folder: subnet_file.parent().unwrap_or(Path::new("/")),
    };
    best_effort(
        backend::build(&config, &mut identity),
        "its devices go at once",
    )
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
            ..Made::default()
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
