//! What the kernel has: a few dumps, and from them, purely, what is ours.
use crate::{
    model::host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostState},
    reconcile::ownership::{self, Indexes, Scope},
    rules::nftables,
    underlay,
};
use linux_net::{
    Netlink,
    fdb::FdbEntry,
    link::{Kind, Link},
    neighbour::Neighbour,
    route::{Filter, Route},
};
use packet_filter::{Nft, Table};
use std::{collections::BTreeMap, net::IpAddr};

/// Sockets that stay open.
#[derive(Debug)]
pub struct Kernel {
    /// links, addresses, routes, neighbours, FDB
    pub netlink: Netlink,
    /// tables; opened when first needed, so that a kernel without nftables costs the rules and nothing else
    nft: Option<Nft>,
}

/// The dumps.
#[derive(Debug, Default)]
pub struct Dump {
    /// links, addresses, routes, and the answer for `--iface-can-reach`
    pub host: underlay::HostNetwork,
    /// of our devices
    pub neighbours: Vec<Neighbour>,
    /// of our devices
    pub fdb: Vec<FdbEntry>,
    /// those with our names
    pub tables: Vec<Table>,
}

impl Kernel {
    /// In the calling thread's namespace.
    pub fn open() -> linux_net::Result<Kernel> {
        Ok(Kernel {
            netlink: Netlink::open()?,
            nft: None,
        })
    }

    /// The nftables socket.
    pub fn nft(&mut self) -> Result<&mut Nft, packet_filter::Error> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open()?)),
        }
    }

    /// What an underlay is chosen from.
    pub fn host(&mut self, can_reach: Option<IpAddr>) -> linux_net::Result<underlay::HostNetwork> {
        Ok(underlay::HostNetwork {
            links: self.netlink.links()?,
            addresses: self.netlink.addresses(None)?,
            routes: self.netlink.routes(Filter {
                table: Some(254),
                ..Filter::default()
            })?,
            // no route is an answer too
            route_to_target: can_reach.and_then(|ip| self.netlink.route_to(ip).ok()),
        })
    }

    /// Everything. A packet filter that cannot be read leaves `tables` empty: writing them will tell why.
    pub fn dump(
        &mut self,
        names: &[DeviceName],
        can_reach: Option<IpAddr>,
    ) -> linux_net::Result<Dump> {
        let host = self.host(can_reach)?;
        let mut dump = Dump {
            host,
            ..Dump::default()
        };
        let ours = |link: &&Link| names.iter().any(|name| **name == *link.name);
        for link in dump.host.links.iter().filter(ours) {
            // a device may go away between two dumps
            match self.netlink.neighbours(Some(link.index)) {
                Err(error) if !error.is_absent() => return Err(error),
                neighbours => dump.neighbours.extend(neighbours.unwrap_or_default()),
            }
            match self.netlink.fdb(link.index) {
                Err(error) if !error.is_absent() => return Err(error),
                entries => dump.fdb.extend(entries.unwrap_or_default()),
            }
        }
        for (family, name) in nftables::TABLES {
            if let Ok(Some(table)) = self.nft().and_then(|nft| nft.table(family, name)) {
                dump.tables.push(table);
            }
        }
        Ok(dump)
    }
}

impl Dump {
    /// Our devices that are there.
    pub fn indexes(&self, scope: &Scope) -> Indexes {
        let ours = |link: &Link| Some((link.index, scope.device(&link.name)?.clone()));
        self.host.links.iter().filter_map(ours).collect()
    }

    /// The part that is ours.
    pub fn interpret(&self, scope: &Scope) -> HostState {
        let mut state = HostState {
            tables: self.tables.clone(),
            ..HostState::default()
        };
        let indexes = self.indexes(scope);
        for link in &self.host.links {
            if let Some(name) = indexes.get(&link.index) {
                state
                    .devices
                    .insert(name.clone(), Device::bare(device_link(link)));
            }
        }
        let devices = &mut state.devices;
        for address in &self.host.addresses {
            let net = scope.address(address);
            if let (Some(device), Some(net)) = (on(devices, &indexes, address.index), net) {
                device.addresses.insert(net);
            }
        }
        for entry in &self.neighbours {
            let pair = ownership::neighbour(entry);
            if let (Some(device), Some(pair)) = (on(devices, &indexes, entry.index), pair) {
                device.neighbours.insert(pair);
            }
        }
        for entry in &self.fdb {
            let pair = ownership::fdb(entry);
            if let (Some(device), Some(pair)) = (on(devices, &indexes, entry.index), pair) {
                device.fdb.insert(pair);
            }
        }
        let ours = |route: &Route| scope.route(route, |index| self.name_of(scope, &indexes, index));
        state.routes = self.host.routes.iter().filter_map(ours).collect();
        state
    }

    /// Ours, or the interface over which host routes go.
    fn name_of(&self, scope: &Scope, indexes: &Indexes, index: u32) -> Option<DeviceName> {
        if let Some(name) = indexes.get(&index) {
            return Some(name.clone());
        }
        let over = scope.host_routes_over.as_ref()?;
        let link = self.host.links.iter().find(|link| link.index == index)?;
        (*link.name == **over).then(|| over.clone())
    }
}

fn on<'a>(
    devices: &'a mut BTreeMap<DeviceName, Device>,
    indexes: &Indexes,
    index: u32,
) -> Option<&'a mut Device> {
    devices.get_mut(indexes.get(&index)?)
}

/// The link as a device of ours.
pub fn device_link(link: &Link) -> DeviceLink {
    DeviceLink {
        kind: match &link.kind {
            Kind::Vxlan(vxlan) => DeviceKind::Vxlan(vxlan.clone()),
            other => DeviceKind::Other(format!("{other:?}")),
        },
        mtu: link.mtu,
        mac: link.mac.unwrap_or_default(),
        up: link.up,
    }
}
