//! What this daemon made under an earlier configuration: it goes when the configuration changes,
//! its backend once no other node uses it. What its commands did is taken back.

use super::{InstanceError, InstanceLock, Resource, rule_place};
use crate::{
    backend::{self, Backend, Extension, NodeIdentity},
    best_effort::best_effort,
    files::node_state::{Made, NodeState},
    model::{
        Family, Subnets, host_state::DeviceName, lease::Lease, network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    reconcile::Earlier,
    rules::RuleNames,
    underlay::HostNetwork,
};
use ipnetwork::IpNetwork;
use linux_net::link::Link;
use serde_json::{Map, Value};
use std::{path::Path, sync::Arc};
use subnet_env::Previous;
use tracing::info;

/// What a daemon starts with.
pub(super) struct Start<'a> {
    pub(super) node: &'a mut NodeState,
    pub(super) subnet_file: &'a Path,
    /// The content of subnet.env, which proves what a daemon without a record made, Go's included.
    pub(super) previous: &'a Previous,
    pub(super) config: &'a NetworkConfig,
    pub(super) backend: &'a dyn Backend,
    /// This node's lease.
    pub(super) own: &'a Lease,
    pub(super) host: &'a HostNetwork,
}

/// A backend of an earlier configuration.
struct Kept {
    /// The value of `Backend`.
    value: Map<String, Value>,
    backend: Arc<dyn Backend>,
}

impl<'a> Start<'a> {
    /// Finds what is left of earlier configurations, and records what this one makes. The second
    /// one is the backend whose commands are to be taken back.
    pub(super) fn record(mut self) -> (Earlier, Option<Arc<dyn Backend>>) {
        let mut made = self.node.made(self.subnet_file);
        let families = backend::families(self.config, self.own);
        for family in families_of(self.previous) {
            if !made.families.contains(&family) {
                made.families.push(family);
            }
        }
        // the latest first: of two with the same devices it counts
        let latest_first = made.backends.iter().rev();
        let built: Vec<_> = latest_first.filter_map(|value| self.build(value)).collect();
        let rules = self.rules(&built);
        let has_commands = |kept: &Kept| kept.backend.commands().is_some();
        let (with_commands, others) = built.into_iter().partition(has_commands);
        let left = self.left(with_commands);
        let links = self.links();
        let kept = self.kept(others, &links);
        let in_use = kept.iter().map(|kept| &*kept.backend);
        let in_use = in_use.chain([self.backend]);
        let in_use: Vec<_> = in_use.flat_map(Backend::device_names).cloned().collect();
        let earlier = earlier(&made, &in_use, self.previous, self.host, &links);
        made.families.retain(|family| !families.contains(family));
        let earlier_families = made.families.clone();
        made.families.extend(families);
        made.devices = earlier.iter().map(|name| name.to_string()).collect();
        made.devices
            .extend(in_use.iter().map(|name| name.to_string()));
        let values = left.iter().chain(&kept).map(|kept| kept.value.clone());
        made.backends = values.chain([value_of(self.config)]).collect();
        self.node.set_made(self.subnet_file, made);
        let earlier = Earlier {
            devices: earlier,
            families: earlier_families,
            backends: kept.into_iter().map(|kept| kept.backend).collect(),
            rules,
        };
        (earlier, left.map(|left| left.backend))
    }

    /// Those of the host, but not the devices that another daemon manages now.
    fn links(&self) -> Vec<&'a Link> {
        let is_anothers = |link: &Link| backend::owns_device(link) && self.is_anothers(&link.name);
        let links = self.host.links.iter();
        links.filter(|link| !is_anothers(link)).collect()
    }

    /// True if another daemon manages the device now.
    fn is_anothers(&self, device: &str) -> bool {
        let mut own = self.backend.device_names().iter();
        let is_own = own.any(|name| **name == *device);
        let held = || InstanceLock::acquire([Resource::Device(device.to_owned())]);
        !is_own && matches!(held(), Err(InstanceError::Held { .. }))
    }

    /// What the rules may be called that this daemon made under these backends.
    fn rules(&self, built: &[Kept]) -> Vec<RuleNames> {
        let is_anothers = |backend: &dyn Backend| {
            let mut names = backend.device_names().iter();
            names.any(|name| self.is_anothers(name))
        };
        let backends = built.iter().map(|kept| &*kept.backend);
        let own = backends.filter(|backend| !is_anothers(*backend));
        own.map(rule_place::names_of_second).collect()
    }

    /// Those of these backends that this host still has. One whose devices are those of the current
    /// backend is that backend under other keys.
    fn kept(&self, built: Vec<Kept>, links: &[&Link]) -> Vec<Kept> {
        let mut kept: Vec<Kept> = Vec::new();
        let is_there = |name: &DeviceName| links.iter().any(|link| *link.name == **name);
        for earlier in built {
            let backend = &*earlier.backend;
            let names = backend.device_names();
            let is_known = is_same(self.backend, backend)
                || kept.iter().any(|other| is_same(&*other.backend, backend));
            if !is_known && (names.is_empty() || names.iter().any(is_there)) {
                info!(
                    "keeping the backend {} of an earlier configuration as long as other nodes use it",
                    backend.name()
                );
                kept.push(earlier);
            }
        }
        kept.reverse();
        kept
    }

    /// The latest of these backends with commands, if the present one has none and what they did is
    /// not taken back.
    fn left(&self, with_commands: Vec<Kept>) -> Option<Kept> {
        if self.backend.commands().is_some() {
            return None;
        }
        let has_run = |kept: &Kept| kept.backend.commands().is_some_and(Extension::has_run);
        with_commands.into_iter().find(has_run)
    }

    fn build(&mut self, value: &Map<String, Value>) -> Option<Kept> {
        const GONE: &str = "what it made goes at once";
        let config = best_effort(self.config.with_backend(value), GONE)?;
        let mut identity = NodeIdentity {
            state: self.node,
            links: &self.host.links,
            record: &NodeRecord::default(),
            run_folder: self.subnet_file.parent().unwrap_or(Path::new("/")),
        };
        Some(Kept {
            value: value.clone(),
            backend: best_effort(backend::build(&config, &mut identity), GONE)?,
        })
    }
}

fn is_same(one: &dyn Backend, other: &dyn Backend) -> bool {
    (one.name(), one.device_names()) == (other.name(), other.device_names())
}

/// `Backend` with its type, which upstream's default leaves out.
fn value_of(config: &NetworkConfig) -> Map<String, Value> {
    let mut value = config.backend.clone();
    if value.is_empty() {
        value.insert("Type".to_owned(), config.backend_type.as_str().into());
    }
    value
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
    links: &[&Link],
) -> Vec<DeviceName> {
    let subnets = Subnets::from(previous);
    let subnets: [Option<IpNetwork>; 2] = [subnets.v4.map(Into::into), subnets.v6.map(Into::into)];
    let has_our_address = |link: &Link| {
        let first = |subnet: &IpNetwork| go_compat::cidr::host(subnet.network());
        let firsts: Vec<_> = subnets.iter().flatten().map(first).collect();
        host.addresses_of(link)
            .any(|address| firsts.contains(&address.net))
    };
    let is_earlier = |link: &&&Link| {
        backend::owns_device(link)
            && !current.iter().any(|name| **name == *link.name)
            && (made.devices.contains(&link.name) || has_our_address(link))
    };
    let earlier = links.iter().filter(is_earlier);
    earlier.map(|link| link.name.as_str().into()).collect()
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
        let links: Vec<_> = host.links.iter().collect();
        let found = earlier(&made, &current, &previous, &host, &links);
        assert_eq!(found, ["flannel.2".into(), "flannel.3".into()]);
    }
}
