//! Which leases are peers that can be used. Other nodes write the leases, so every field is
//! checked: what cannot be used is skipped with the reason, in one address family, and affects no
//! other lease.

use super::{
    OwnFamily,
    peer_leases::{PeerLease, PeerLeases},
};
use crate::model::lease::Lease;
use ipnetwork::IpNetwork;
use linux_net::{Mac, wireguard::PublicKey};
use std::{cmp::Reverse, collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::SystemTime};

/// One address family of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedPeer {
    /// Its subnet.
    pub(crate) subnet: IpNetwork,
    /// The address by which it is reached.
    pub(crate) public_ip: IpAddr,
}

/// What a peer's backend published for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerData {
    /// Its public address is all that leads to it.
    Nothing,
    /// The same, and it is a router's, which passes nothing but the tunnel on.
    BehindNat,
    Vxlan {
        /// Of its device.
        vtep: Mac,
        /// Its public address is a router's, which passes nothing but the tunnel on.
        behind_nat: bool,
    },
    Wireguard {
        public_key: PublicKey,
        /// 0: the one that this node has.
        port: u16,
    },
    /// For extension's commands; None for an empty text.
    Text(Option<Arc<str>>),
}

/// A lease, or one family of it, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SkippedLease {
    pub(crate) subnet: IpNetwork,
    /// The node that has it, by its public address.
    pub(crate) node: Option<IpAddr>,
    pub(crate) reason: PeerError,
}

impl SkippedLease {
    /// The address of a peer that a change of the host's routes may bring onto the link.
    pub(crate) fn off_link(&self) -> Option<IpAddr> {
        match self.reason {
            PeerError::NotOnLink(ip) => Some(ip),
            _ => None,
        }
    }
}

impl fmt::Display for SkippedLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{}: {} (node {node})", self.subnet, self.reason),
            None => write!(f, "{}: {}", self.subnet, self.reason),
        }
    }
}

/// Why a lease is skipped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("its subnet has host bits set")]
    HostBits,
    #[error("it is not a part of the network {0}")]
    OutsideNetwork(IpNetwork),
    #[error("it claims this node's own subnet {0}")]
    OwnSubnet(IpNetwork),
    #[error("its backend is {peer:?}, this node's is {own:?}")]
    OtherBackend { peer: String, own: &'static str },
    #[error(
        "its Backend.{key} is {peer}, this node's is {own}: no packet passes until both have the same network \
         configuration"
    )]
    OtherSetting {
        key: &'static str,
        peer: u64,
        own: u64,
    },
    #[error("it has no public IP")]
    NoPublicIp,
    #[error("its public IP {0} is this node's own")]
    OwnPublicIp(IpAddr),
    #[error("its public IP {0} cannot be a node's address")]
    UnusablePublicIp(IpAddr),
    #[error("its public IP {0} is inside the pod network itself")]
    PublicIpInsideNetwork(IpAddr),
    #[error(
        "its public IP {0} is not on the link of this node's interface: a packet that is not encapsulated does not pass the \
         router between them (vxlan with DirectRouting encapsulates for such nodes alone)"
    )]
    NotOnLink(IpAddr),
    #[error("a newer lease holds {0}, which overlaps it")]
    Overlap(IpNetwork),
    #[error("it has another length than this network's subnets and overlaps the lease of {0}")]
    OddLength(IpNetwork),
    #[error("it has no {0} backend data")]
    NoData(&'static str),
    #[error("its backend data cannot be read: {0}")]
    UnreadableData(String),
    #[error("its backend data has no VtepMAC (yet)")]
    NoVtepMac,
    #[error("its VtepMAC {0:?} is not a MAC address")]
    InvalidVtepMac(String),
    #[error("its VtepMAC {0} is not a device's address")]
    GroupVtepMac(Mac),
    #[error("its PublicKey is missing or no key of WireGuard")]
    NoPublicKey,
    #[error("its PublicKey {0} is this node's own: one was cloned from the other")]
    OwnPublicKey(PublicKey),
    #[error("its PublicKey {key} is also that of {holder}: one was cloned from the other")]
    DuplicatePublicKey { key: PublicKey, holder: IpAddr },
    #[error("it has no public {0} address, which Backend.Mode asks for")]
    NoEndpoint(&'static str),
    #[error("its VtepMAC {vtep} is also that of {holder}")]
    DuplicateVtepMac { vtep: Mac, holder: IpAddr },
}

/// A usable peer with its backend data.
pub(super) type UsablePeer<'a> = (PlannedPeer, &'a Result<PeerData, PeerError>);

/// The peers of one family, newest lease first. Where two leases contradict each other (a node that
/// returned with another address leaves its old lease behind), the newer one is used. A lease whose
/// length is not that of the network's subnets comes behind all others, the largest last: a /17
/// must not take the place of a hundred /24.
pub(super) fn usable<'a>(
    own: &OwnFamily,
    backend: &'static str,
    leases: &'a PeerLeases,
    skipped: &mut Vec<SkippedLease>,
) -> Vec<UsablePeer<'a>> {
    let mut candidates: Vec<_> = leases
        .iter()
        .filter_map(|lease| Candidate::of(own, lease))
        .collect();
    candidates.sort_by_key(|candidate| {
        let length = candidate.subnet.prefix();
        let odd = (length != own.family.subnet.prefix()).then_some(Reverse(length));
        (odd, Reverse(age(candidate.lease)), candidate.subnet)
    });
    let mut taken = TakenSubnets::default();
    let mut peers = Vec::new();
    for candidate in candidates {
        let subnet = candidate.subnet;
        if subnet == own.family.subnet && candidate.public_ip == Some(own.public_ip) {
            continue;
        }
        let public_ip = candidate
            .check(own, backend)
            .and_then(|public_ip| taken.take(subnet).map(|()| public_ip));
        match public_ip {
            Ok(public_ip) => peers.push((PlannedPeer { subnet, public_ip }, candidate.data)),
            Err(reason) => skipped.push(SkippedLease {
                subnet,
                node: candidate.public_ip,
                reason,
            }),
        }
    }
    peers
}

/// One family of a lease.
struct Candidate<'a> {
    lease: &'a Lease,
    subnet: IpNetwork,
    public_ip: Option<IpAddr>,
    data: &'a Result<PeerData, PeerError>,
}

impl<'a> Candidate<'a> {
    /// None if the lease has no subnet of this family, or is a reservation without a node.
    fn of(own: &OwnFamily, peer: &'a PeerLease) -> Option<Candidate<'a>> {
        let lease = &*peer.lease;
        let attrs = &lease.attrs;
        if attrs.public_ip.is_none() && attrs.public_ipv6.is_none() && attrs.backend_type.is_empty()
        {
            return None;
        }
        let (subnet, public_ip, data) = if own.family.network.is_ipv6() {
            let public_ip = attrs.public_ipv6.map(IpAddr::V6);
            (lease.subnets.v6?.into(), public_ip, &peer.v6)
        } else {
            let public_ip = attrs.public_ip.map(IpAddr::V4);
            (lease.subnets.v4?.into(), public_ip, &peer.v4)
        };
        Some(Candidate {
            lease,
            subnet,
            public_ip,
            data,
        })
    }

    fn check(&self, own: &OwnFamily, backend: &'static str) -> Result<IpAddr, PeerError> {
        if self.subnet.ip() != self.subnet.network() {
            return Err(PeerError::HostBits);
        }
        if !own.family.contains(self.subnet) {
            return Err(PeerError::OutsideNetwork(own.family.network));
        }
        if overlap(&self.subnet, &own.family.subnet) {
            return Err(PeerError::OwnSubnet(own.family.subnet));
        }
        let backend_type = &self.lease.attrs.backend_type;
        if backend_type != backend {
            return Err(PeerError::OtherBackend {
                peer: backend_type.clone(),
                own: backend,
            });
        }
        let public_ip = self.public_ip.ok_or(PeerError::NoPublicIp)?;
        check_public_ip(own, public_ip).map(|()| public_ip)
    }
}

fn check_public_ip(own: &OwnFamily, public_ip: IpAddr) -> Result<(), PeerError> {
    let broadcast = matches!(public_ip, IpAddr::V4(ip) if ip.is_broadcast());
    if own.is_own(public_ip) {
        Err(PeerError::OwnPublicIp(public_ip))
    } else if public_ip.is_unspecified()
        || public_ip.is_loopback()
        || public_ip.is_multicast()
        || broadcast
    {
        Err(PeerError::UnusablePublicIp(public_ip))
    } else if own.family.network.contains(public_ip) {
        Err(PeerError::PublicIpInsideNetwork(public_ip))
    } else {
        Ok(())
    }
}

/// A lease without expiration is newer than any other.
fn age(lease: &Lease) -> (bool, Option<SystemTime>) {
    (lease.expiration.is_none(), lease.expiration)
}

fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The subnets of better leases. No two of them overlap.
#[derive(Default)]
struct TakenSubnets(BTreeMap<IpAddr, IpNetwork>);

impl TakenSubnets {
    fn take(&mut self, subnet: IpNetwork) -> Result<(), PeerError> {
        let before = self.0.range(..=subnet.network()).next_back();
        let after = self.0.range(subnet.network()..).next();
        let mut adjacent = before.into_iter().chain(after).map(|(_, other)| *other);
        match adjacent.find(|other| overlap(other, &subnet)) {
            Some(other) if other.prefix() != subnet.prefix() => Err(PeerError::OddLength(other)),
            Some(other) => Err(PeerError::Overlap(other)),
            None => {
                self.0.insert(subnet.network(), subnet);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
