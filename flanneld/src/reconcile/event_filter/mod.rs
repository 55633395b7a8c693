//! Which of the kernel's notifications matter: those that contradict what is wanted. Our own changes come back as
//! notifications too, and pods come and go all day; none of these is a reason to look at everything again.
use crate::{
    model::host_state::{DeviceName, HostRoute, HostState},
    reconcile::observe::device_link,
    reconcile::ownership::{self, Indexes, Scope},
    rules::nftables,
    underlay::Underlay,
};
use ipnetwork::IpNetwork;
use linux_net::monitor::Event;
use packet_filter::Family;
use std::{net::Ipv4Addr, sync::Arc};

/// What is wanted, and what it takes to recognise it in a notification.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// what is wanted
    pub wanted: Arc<HostState>,
    /// what is ours
    pub scope: Scope,
    /// our devices
    pub indexes: Indexes,
    /// the underlay in use; None if it is not there, and any link or address may bring it back
    pub underlay: Option<Underlay>,
}

impl View {
    /// True if the host may no longer be as it should be.
    pub fn contradicts(&self, event: &Event) -> bool {
        match event {
            Event::Overrun => true,
            Event::Link(link) => match self.scope.device(&link.name) {
                Some(name) => !self.wanted.devices.get(name).is_some_and(|wanted| {
                    self.indexes.contains_key(&link.index)
                        && device_link(link).settled_as(&wanted.link)
                }),
                None => self.underlay.as_ref().is_none_or(|underlay| {
                    let same = link.name == underlay.name && link.mtu == underlay.mtu;
                    (link.index == underlay.index || link.name == underlay.name)
                        && !(same && link.index == underlay.index)
                }),
            },
            Event::LinkGone { index, name } => {
                self.indexes.contains_key(index)
                    || self
                        .scope
                        .device(name)
                        .is_some_and(|name| self.wanted.devices.contains_key(name))
                    || self
                        .underlay
                        .as_ref()
                        .is_some_and(|underlay| underlay.index == *index)
            }
            Event::Address(address, added) => match self.indexes.get(&address.index) {
                Some(name) => self.scope.address(address).is_some_and(|net| {
                    let device = self.wanted.devices.get(name);
                    *added != device.is_some_and(|device| device.addresses.contains(&net))
                }),
                None => self
                    .underlay
                    .as_ref()
                    .is_none_or(|underlay| underlay.index == address.index),
            },
            Event::Route(route, added) => {
                // without an underlay, a default route may lead to one
                let is_default = route.dst.prefix() == 0 && route.table == 254;
                is_default && self.underlay.is_none()
                    || match self.scope.route(route, |index| self.name_of(index)) {
                        Some(ours) => *added != self.wanted.routes.contains(&ours),
                        // whoever replaces a route of ours is heard, not the end of ours
                        None => *added && route.table == 254 && self.wants_route_to(route.dst),
                    }
            }
            Event::Neighbour(entry, added) => {
                let Some(device) = self.device(entry.index) else {
                    return false;
                };
                match ownership::neighbour(entry) {
                    Some(pair) => *added != device.neighbours.contains(&pair),
                    // one of ours is no longer permanent, or resolves to nothing
                    None => device.neighbours.iter().any(|(ip, _)| *ip == entry.ip),
                }
            }
            Event::Fdb(entry, added) => {
                let Some(device) = self.device(entry.index) else {
                    return false;
                };
                match ownership::fdb(entry) {
                    Some(pair) => *added != device.fdb.contains(&pair),
                    None => device.fdb.iter().any(|(mac, _)| *mac == entry.mac),
                }
            }
        }
    }

    /// True if one of the changed tables is ours; None means that nobody knows which changed.
    pub fn concerns_tables(&self, changed: Option<&[(Family, String)]>) -> bool {
        changed.is_none_or(|changed| {
            changed
                .iter()
                .any(|(family, name)| nftables::TABLES.contains(&(*family, name.as_str())))
        })
    }

    fn wants_route_to(&self, dst: IpNetwork) -> bool {
        let least = HostRoute {
            dst,
            gateway: Ipv4Addr::UNSPECIFIED.into(),
            device: "".into(),
            onlink: false,
        };
        let next = self.wanted.routes.range(least..).next();
        next.is_some_and(|route| route.dst == dst)
    }

    fn device(&self, index: u32) -> Option<&crate::model::host_state::Device> {
        self.wanted.devices.get(self.indexes.get(&index)?)
    }

    fn name_of(&self, index: u32) -> Option<DeviceName> {
        let over_underlay = || {
            let underlay = self
                .underlay
                .as_ref()
                .filter(|underlay| underlay.index == index)?;
            Some(underlay.name.as_str().into())
        };
        self.indexes.get(&index).cloned().or_else(over_underlay)
    }
}

#[cfg(test)]
mod tests;
