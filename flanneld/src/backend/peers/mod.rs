//! Which leases are peers that can be used. A lease is written by another node, so each field is doubted: what cannot be
//! used is left out with the reason, in one address family, and takes nobody with it.
use crate::model::lease::Lease;
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::{cmp::Reverse, collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::SystemTime};

/// One address family of this node and its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// the cluster's network
    pub network: IpNetwork,
    /// the subnet that we lease
    pub subnet: IpNetwork,
    /// the address by which peers reach us
    pub public_ip: IpAddr,
}

/// One address family of another node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peer<'a> {
    /// its subnet
    pub subnet: IpNetwork,
    /// where it is reached
    pub public_ip: IpAddr,
    /// what its backend says
    pub data: Option<&'a Value>,
}

/// A lease, or one family of it, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// the lease's subnet
    pub subnet: String,
    /// what is wrong with it
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subnet, self.reason)
    }
}

/// The peers of one family, newest lease first: where two leases cannot both be true (a node that came back with another
/// address leaves its old lease behind), the newer one is.
pub fn peers<'a>(
    ours: &Ours,
    backend_type: &str,
    leases: &'a [Arc<Lease>],
    skipped: &mut Vec<Skipped>,
) -> Vec<Peer<'a>> {
    let mut candidates: Vec<_> = leases
        .iter()
        .filter_map(|lease| Some((lease, family(ours, lease)?)))
        .collect();
    candidates.sort_by_key(|(lease, (subnet, ..))| (Reverse(age(lease)), *subnet));
    let mut taken = Taken::default();
    let mut peers = Vec::new();
    for (lease, (subnet, public_ip, data)) in candidates {
        if subnet == ours.subnet && public_ip == Some(ours.public_ip) {
            continue;
        }
        let usable = check(ours, backend_type, lease, subnet, public_ip)
            .and_then(|public_ip| taken.take(subnet).map(|()| public_ip));
        match usable {
            Ok(public_ip) => peers.push(Peer {
                subnet,
                public_ip,
                data,
            }),
            Err(reason) => skipped.push(Skipped {
                subnet: subnet.to_string(),
                reason,
            }),
        }
    }
    peers
}

type FamilyOf<'a> = (IpNetwork, Option<IpAddr>, Option<&'a Value>);

/// The lease's fields of our family; None if it has no subnet in it, or is a reservation that no node fills.
fn family<'a>(ours: &Ours, lease: &'a Lease) -> Option<FamilyOf<'a>> {
    let attrs = &lease.attrs;
    if attrs.public_ip.is_none() && attrs.public_ipv6.is_none() && attrs.backend_type.is_empty() {
        return None;
    }
    Some(if ours.network.is_ipv6() {
        let public_ip = attrs.public_ipv6.map(IpAddr::V6);
        (
            lease.subnets.v6?.into(),
            public_ip,
            attrs.backend_v6_data.as_ref(),
        )
    } else {
        let public_ip = attrs.public_ip.map(IpAddr::V4);
        (
            lease.subnets.v4?.into(),
            public_ip,
            attrs.backend_data.as_ref(),
        )
    })
}

/// A lease without end is as new as can be.
fn age(lease: &Lease) -> (bool, Option<SystemTime>) {
    (lease.expiration.is_none(), lease.expiration)
}

fn check(
    ours: &Ours,
    backend_type: &str,
    lease: &Lease,
    subnet: IpNetwork,
    public_ip: Option<IpAddr>,
) -> Result<IpAddr, String> {
    if subnet.ip() != subnet.network() {
        return Err("its subnet has host bits set".to_owned());
    }
    if !ours.network.contains(subnet.ip()) || subnet.prefix() <= ours.network.prefix() {
        return Err(format!("it is not a part of the network {}", ours.network));
    }
    if overlap(&subnet, &ours.subnet) {
        return Err(format!("it claims this node's own subnet {}", ours.subnet));
    }
    if lease.attrs.backend_type != backend_type {
        return Err(format!(
            "its backend is {:?}, this node's is {backend_type:?}",
            lease.attrs.backend_type
        ));
    }
    let public_ip = public_ip.ok_or("it has no public IP")?;
    if public_ip == ours.public_ip {
        return Err(format!("its public IP {public_ip} is this node's own"));
    }
    let broadcast = matches!(public_ip, IpAddr::V4(ip) if ip.is_broadcast());
    if public_ip.is_unspecified()
        || public_ip.is_loopback()
        || public_ip.is_multicast()
        || broadcast
    {
        return Err(format!("its public IP {public_ip} cannot be a node's"));
    }
    if ours.network.contains(public_ip) {
        return Err(format!(
            "its public IP {public_ip} is inside the pod network itself"
        ));
    }
    Ok(public_ip)
}

fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The subnets that newer leases hold, none of which overlap.
#[derive(Default)]
struct Taken(BTreeMap<IpAddr, IpNetwork>);

impl Taken {
    fn take(&mut self, subnet: IpNetwork) -> Result<(), String> {
        let before = self.0.range(..=subnet.network()).next_back();
        let after = self.0.range(subnet.network()..).next();
        let neighbours = before.into_iter().chain(after);
        for (_, other) in neighbours {
            if overlap(other, &subnet) {
                return Err(format!("a newer lease holds {other}, which overlaps it"));
            }
        }
        self.0.insert(subnet.network(), subnet);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
