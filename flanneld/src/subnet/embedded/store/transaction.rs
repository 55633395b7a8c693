//! The changes that a request makes, or why it is refused. Pure: nothing is changed here.

use super::{
    error::StoreError,
    state::{Change, Reason, State},
};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    subnet::alloc::{self, Owned, Reservation},
};
use std::{net::IpAddr, time::SystemTime};

/// Leases, and reservations, that clients can make the store hold: more than any such network has.
const MAX_ENTRIES: usize = 100_000;
/// Revoked leases that are remembered.
const MAX_REVOKED: usize = 10_000;

impl State {
    fn leases(&self) -> impl Iterator<Item = Owned<'_>> {
        let leases = self.leases.values();
        leases.map(|held| (held.lease.subnets, &held.lease.attrs))
    }

    fn reservations(&self) -> impl Iterator<Item = Owned<'_>> {
        let reservations = self.reservations.values();
        reservations.map(|reservation| (reservation.subnets, &reservation.attrs))
    }

    fn is_reserved(&self, key: &Subnets, attrs: &LeaseAttrs) -> bool {
        let reservation = self.reservations.get(key);
        reservation.is_some_and(|reservation| reservation.attrs.same_node(attrs))
    }

    fn expiration(&self, key: &Subnets, attrs: &LeaseAttrs) -> Option<SystemTime> {
        let reserved = self.is_reserved(key, attrs);
        (!reserved).then(|| SystemTime::now() + self.ttl)
    }

    /// Grants a lease to the node: see [`alloc::choose`]. The lease `ended`, of a node that is gone
    /// and had the public address, ends: its subnets are the last ones that are chosen.
    pub(super) fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: LeaseAttrs,
        previous: Subnets,
        former: Option<&LeaseAttrs>,
        ended: Option<Subnets>,
        random: u64,
    ) -> Result<(Vec<Change>, Lease), StoreError> {
        check_attrs(config, &attrs)?;
        let node = alloc::Node {
            attrs: &attrs,
            former,
        };
        let reservations: Vec<Owned<'_>> = self.reservations().collect();
        let choose = |leases: &[Owned<'_>]| {
            alloc::choose(config, node, previous, leases, &reservations, random)
        };
        let leases: Vec<Owned<'_>> = self.leases().collect();
        let nobody = LeaseAttrs::default();
        let left = ended.filter(|ended| !self.is_reserved(ended, &attrs));
        let chosen = choose(&with_owner(&leases, ended, left.map(|_| &nobody)));
        let key = match chosen {
            Err(alloc::Error::OutOfSubnets { .. }) if left.is_some() => {
                choose(&with_owner(&leases, ended, None))?
            }
            chosen => chosen?,
        };
        // a node has one lease
        let mut changes: Vec<Change> = leases
            .iter()
            .filter(|(subnets, owner)| *subnets != key && node.holds(owner))
            .map(|(subnets, _)| Change::Remove(*subnets, Reason::Replaced))
            .collect();
        if leases.len() - changes.len() >= MAX_ENTRIES && self.lease(&key).is_none() {
            return Err(StoreError::Full(MAX_ENTRIES));
        }
        let lease = Lease {
            subnets: key,
            expiration: self.expiration(&key, &attrs),
            attrs,
        };
        let overlapping = self.revoked.keys().filter(|old| old.overlaps(&key));
        changes.extend(overlapping.map(|old| Change::Forget(*old)));
        changes.push(Change::Put(lease.clone()));
        Ok((changes, lease))
    }

    /// Renews a lease for its node, with these attributes or else its own.
    pub(super) fn renew(
        &self,
        config: &NetworkConfig,
        key: Subnets,
        attrs: Option<LeaseAttrs>,
    ) -> Result<(Vec<Change>, Lease), StoreError> {
        let key = self.lease_key(key);
        let Some(held) = self.lease(&key) else {
            return Err(match self.revoked.get(&key) {
                Some(node) if attrs.as_ref().is_none_or(|attrs| attrs.same_node(node)) => {
                    StoreError::Revoked(key)
                }
                _ => StoreError::Unknown(key),
            });
        };
        let attrs = attrs.unwrap_or_else(|| held.attrs.clone());
        check_attrs(config, &attrs)?;
        if !attrs.same_node(&held.attrs) {
            return Err(StoreError::HeldBy(key, held.attrs.node()));
        }
        let lease = Lease {
            expiration: self.expiration(&key, &attrs),
            attrs,
            ..held.clone()
        };
        Ok((vec![Change::Put(lease.clone())], lease))
    }

    pub(super) fn revoke(&self, key: Subnets) -> Result<Vec<Change>, StoreError> {
        let key = self.lease_key(key);
        let held = self.lease(&key).ok_or(StoreError::Unknown(key))?;
        let mut changes = vec![Change::Remove(key, Reason::Revoked)];
        if self.revoked.len() < MAX_REVOKED {
            // what tells the node from others
            let node = LeaseAttrs {
                backend_data: None,
                backend_v6_data: None,
                ..held.attrs.clone()
            };
            changes.push(Change::Revoked(key, node));
        }
        Ok(changes)
    }

    /// Keeps subnets for a node.
    pub(super) fn reserve(
        &self,
        config: &NetworkConfig,
        reservation: Reservation,
    ) -> Result<Vec<Change>, StoreError> {
        let (key, attrs) = (reservation.subnets, &reservation.attrs);
        check_attrs(config, attrs)?;
        alloc::check_reservable(config, &key)?;
        if self.reservations.len() >= MAX_ENTRIES {
            return Err(StoreError::Full(MAX_ENTRIES));
        }
        let owners = self.reservations().chain(self.leases());
        let mut others = owners.filter(|(_, owner)| !owner.same_node(attrs));
        if let Some((other, owner)) = others.find(|(other, _)| other.overlaps(&key)) {
            return Err(StoreError::HeldBy(other, owner.node()));
        }
        let mut own = self
            .reservations()
            .filter(|(_, owner)| owner.same_node(attrs));
        if let Some((subnets, _)) = own.find(|(subnets, _)| *subnets != key) {
            return Err(StoreError::AlreadyReserved {
                node: attrs.node(),
                subnets,
            });
        }
        let mut changes = Vec::new();
        // the lease that the node holds there no longer ends
        changes.extend(self.lease(&key).map(|lease| {
            Change::Put(Lease {
                expiration: None,
                ..lease.clone()
            })
        }));
        changes.push(Change::Reserve(reservation));
        Ok(changes)
    }

    /// Ends a reservation; the lease on it ends like others from now on.
    pub(super) fn unreserve(&self, key: Subnets) -> Result<Vec<Change>, StoreError> {
        let key = self.reservation_key(key);
        if !self.reservations.contains_key(&key) {
            return Err(StoreError::Unknown(key));
        }
        let mut changes = vec![Change::Unreserve(key)];
        changes.extend(self.lease(&key).map(|lease| {
            Change::Put(Lease {
                expiration: Some(SystemTime::now() + self.ttl),
                ..lease.clone()
            })
        }));
        Ok(changes)
    }
}

/// The leases, of which one has another owner, or is left out if there is none.
fn with_owner<'a>(
    leases: &[Owned<'a>],
    which: Option<Subnets>,
    owner: Option<&'a LeaseAttrs>,
) -> Vec<Owned<'a>> {
    let replaced = leases.iter().filter_map(|lease| match which {
        Some(which) if which == lease.0 => owner.map(|owner| (which, owner)),
        _ => Some(*lease),
    });
    replaced.collect()
}

/// A node must give the address by which it is reached.
fn check_attrs(config: &NetworkConfig, attrs: &LeaseAttrs) -> Result<(), StoreError> {
    let unusable = |field, address: IpAddr| Err(StoreError::UnusableAddress { field, address });
    match (attrs.public_ip, attrs.public_ipv6) {
        (None, _) if config.enable_ipv4 => Err(StoreError::MissingAddress("PublicIP")),
        (_, None) if !config.enable_ipv4 => Err(StoreError::MissingAddress("PublicIPv6")),
        (Some(ip), _) if ip.is_multicast() || ip.is_broadcast() => unusable("PublicIP", ip.into()),
        (_, Some(ip)) if ip.is_multicast() => unusable("PublicIPv6", ip.into()),
        _ => Ok(()),
    }
}
