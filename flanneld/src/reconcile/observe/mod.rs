//! Reads the kernel's state: a few dumps, and from them, without further requests, what is ours.

mod follow;

use super::{
    apply::IndexesByName,
    kernel::{Kernel, Rules},
    ownership::{self, DeviceIndexes, Ownership},
    policies,
};
use crate::{
    best_effort::best_effort,
    model::{
        host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostState},
        wireguard::Wireguard,
    },
    rules::RulePlace,
    underlay::{HostNetwork, UnderlayRoutes},
};
use linux_net::{
    fdb::FdbEntry,
    link::{Kind, Link},
    neighbour::Neighbour,
    route::Route,
    xfrm::Policy,
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The dumps.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) host: HostNetwork,
    /// The names of all links.
    names: BTreeMap<u32, DeviceName>,
    /// Of our devices.
    neighbours: Vec<Neighbour>,
    /// Of our devices.
    fdb: Vec<FdbEntry>,
    /// Of our vxlan devices, by ifindex: the kernel leaves checksums to them.
    tx_checksums: BTreeMap<u32, bool>,
    /// Of our devices, by ifindex.
    wireguard: BTreeMap<u32, Wireguard>,
    /// Of IPsec: all.
    policies: Vec<Policy>,
    /// Those with our names.
    rules: Rules,
    /// The part that is ours, once a pass made it what it wants.
    settled: Option<Settled>,
}

/// What stays known of a host that is as wanted.
#[derive(Debug)]
struct Settled {
    own: Arc<HostState>,
    underlay_routes: Arc<UnderlayRoutes>,
}

impl Dump {
    /// Reads everything. Rules that cannot be read are missing: the write reports the error.
    pub(crate) fn read(
        kernel: &mut Kernel,
        device_names: &[DeviceName],
        place: &RulePlace,
        can_reach: Option<IpAddr>,
    ) -> linux_net::Result<Dump> {
        let host = kernel.host_network(can_reach)?;
        let (mut neighbours, mut fdb) = (Vec::new(), Vec::new());
        let (mut wireguard, mut tx_checksums) = (BTreeMap::new(), BTreeMap::new());
        let is_ours = |link: &&Link| device_names.iter().any(|name| **name == *link.name);
        for link in host.links.iter().filter(is_ours) {
            neighbours.extend(unless_absent(kernel.netlink.neighbours(Some(link.index)))?);
            fdb.extend(unless_absent(kernel.netlink.fdb(link.index))?);
            if matches!(link.kind, Kind::Vxlan(_)) {
                // a kernel without such a switch refuses the change, too, and that is reported
                let on = kernel.ethtool.tx_checksum(&link.name);
                let on = best_effort(on, "it counts as another one than what is wanted");
                tx_checksums.extend(on.map(|on| (link.index, on)));
            }
            if is_wireguard(&link.kind) {
                let device = kernel
                    .wireguard()
                    .and_then(|socket| socket.read(link.index));
                wireguard.extend(present(device)?.map(|device| (link.index, device)));
            }
        }
        let rules = kernel.rules(place);
        let policies = policies::read(kernel)?;
        Ok(Dump {
            names: names(&host.links),
            host,
            neighbours,
            fdb,
            tx_checksums,
            wireguard,
            policies,
            rules,
            settled: None,
        })
    }

    /// The dump after a pass made the part that is ours what it wants. Of the routes, it keeps
    /// those that lead out and those into the pod network.
    pub(crate) fn settled(
        mut self,
        own: Arc<HostState>,
        underlay_routes: Arc<UnderlayRoutes>,
        ownership: &Ownership,
    ) -> Dump {
        let is_inside = |route: &Route| {
            let mut families = ownership.families.iter();
            families.any(|family| family.contains(route.dst))
        };
        let routes = &mut self.host.routes;
        routes.retain(|route| route.dst.prefix() == 0 || is_inside(route));
        routes.shrink_to_fit();
        Dump {
            neighbours: Vec::new(),
            fdb: Vec::new(),
            tx_checksums: BTreeMap::new(),
            wireguard: BTreeMap::new(),
            policies: Vec::new(),
            rules: Rules::default(),
            settled: Some(Settled {
                own,
                underlay_routes,
            }),
            ..self
        }
    }

    /// The host's routes but ours.
    pub(crate) fn underlay_routes(&self, ownership: &Ownership) -> Arc<UnderlayRoutes> {
        if let Some(settled) = &self.settled {
            return settled.underlay_routes.clone();
        }
        let indexes = self.indexes(ownership);
        let is_ours = |route: &Route| {
            let over_own_device = route.oif.is_some_and(|oif| indexes.contains_key(&oif));
            let name_of = |index| self.name_of(index);
            over_own_device || ownership.route(route, name_of).is_some()
        };
        Arc::new(UnderlayRoutes::new(&self.host.routes, is_ours))
    }

    /// Our devices.
    pub(crate) fn indexes(&self, ownership: &Ownership) -> DeviceIndexes {
        let ours = |link: &Link| Some((link.index, ownership.device(&link.name)?.clone()));
        self.host.links.iter().filter_map(ours).collect()
    }

    /// The part of the host's state that is ours.
    pub(crate) fn interpret(&self, ownership: &Ownership) -> HostState {
        if let Some(settled) = &self.settled {
            return HostState::clone(&settled.own);
        }
        let indexes = self.indexes(ownership);
        let state = HostState {
            devices: self.devices(ownership, &indexes),
            routes: self
                .host
                .routes
                .iter()
                .filter_map(|route| ownership.route(route, |index| self.name_of(index)))
                .collect(),
            blackholes: self
                .host
                .routes
                .iter()
                .filter_map(|route| ownership.blackhole(route))
                .collect(),
            policies: policies::ours(&self.policies, ownership),
            ..HostState::default()
        };
        self.rules.clone().into_state(state)
    }

    fn devices(
        &self,
        ownership: &Ownership,
        indexes: &DeviceIndexes,
    ) -> BTreeMap<DeviceName, Device> {
        let device = |link: &Link| {
            let index = link.index;
            let name = indexes.get(&index)?.clone();
            let addresses = self.host.addresses.iter();
            let neighbours = self.neighbours.iter();
            let fdb = self.fdb.iter();
            let device = Device {
                link: device_link(link),
                addresses: addresses
                    .filter(|address| address.index == index)
                    .filter_map(|address| ownership.address(address))
                    .collect(),
                neighbours: neighbours
                    .filter(|entry| entry.index == index)
                    .filter_map(ownership::neighbour)
                    .collect(),
                fdb: fdb
                    .filter(|entry| entry.index == index)
                    .filter_map(ownership::fdb)
                    .collect(),
                tx_checksum: self.tx_checksums.get(&index).copied(),
                wireguard: self.wireguard.get(&index).cloned(),
            };
            Some((name, device))
        };
        self.host.links.iter().filter_map(device).collect()
    }

    /// The name of a link.
    pub(crate) fn name_of(&self, index: u32) -> Option<DeviceName> {
        self.names.get(&index).cloned()
    }

    /// The ifindex of each link.
    pub(crate) fn indexes_by_name(&self) -> IndexesByName {
        let links = self.names.iter();
        links.map(|(index, name)| (name.clone(), *index)).collect()
    }
}

fn names(links: &[Link]) -> BTreeMap<u32, DeviceName> {
    let named = |link: &Link| (link.index, link.name.as_str().into());
    links.iter().map(named).collect()
}

/// A device may be deleted between two dumps: it then has no entries.
fn unless_absent<T>(entries: linux_net::Result<Vec<T>>) -> linux_net::Result<Vec<T>> {
    Ok(present(entries)?.unwrap_or_default())
}

/// What was read of a device; None if it is gone.
fn present<T>(read: linux_net::Result<T>) -> linux_net::Result<Option<T>> {
    match read {
        Err(error) if error.is_absent() => Ok(None),
        read => read.map(Some),
    }
}

fn is_wireguard(kind: &Kind) -> bool {
    matches!(kind, Kind::Other(kind) if kind == "wireguard")
}

/// An observed link that has a name of ours.
pub(crate) fn device_link(link: &Link) -> DeviceLink {
    let kind = match &link.kind {
        Kind::Vxlan(vxlan) => DeviceKind::Vxlan(vxlan.clone()),
        Kind::IpTunnel(tunnel) => DeviceKind::IpTunnel(tunnel.clone()),
        Kind::None => DeviceKind::Foreign("physical".to_owned()),
        Kind::Bridge { .. } => DeviceKind::Foreign("bridge".to_owned()),
        Kind::Veth => DeviceKind::Foreign("veth".to_owned()),
        kind if is_wireguard(kind) => DeviceKind::Wireguard(None),
        Kind::Other(kind) if kind == "tun" => DeviceKind::Tun,
        Kind::Other(kind) => DeviceKind::Foreign(kind.clone()),
    };
    DeviceLink {
        kind,
        mtu: link.mtu,
        mac: link.mac,
        up: link.up,
        master: link.master,
    }
}
