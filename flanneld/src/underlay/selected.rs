//! The selected underlay.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The chosen interface and this node's addresses on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// ifindex
    pub(crate) index: u32,
    pub(crate) name: String,
    /// bytes
    pub(crate) mtu: u32,
    /// IPv4 address on the interface, if the network has IPv4
    pub(crate) address: Option<Ipv4Addr>,
    /// IPv6 address on the interface, if the network has IPv6
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// IPv4 address that peers use: `-public-ip`, else `address`
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// IPv6 address that peers use: `-public-ipv6`, else `address_v6`
    pub(crate) public_ipv6: Option<Ipv6Addr>,
}

impl Underlay {
    /// Every address by which this node is reached.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = [self.address, self.public_ip].into_iter().flatten();
        let v6 = [self.address_v6, self.public_ipv6].into_iter().flatten();
        v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6))
    }
}

impl Underlay {
    /// A public address that is not the one on the interface, and the latter.
    pub(crate) fn translated(&self) -> Option<(IpAddr, IpAddr)> {
        let v4 = self.public_ip.zip(self.address);
        let v6 = self.public_ipv6.zip(self.address_v6);
        let v4 = v4.map(|(public, own)| (IpAddr::V4(public), IpAddr::V4(own)));
        let v6 = v6.map(|(public, own)| (IpAddr::V6(public), IpAddr::V6(own)));
        let mut families = v4.into_iter().chain(v6);
        families.find(|(public, own)| public != own)
    }
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (MTU {})", self.name, self.mtu)?;
        let v4 = self.address.zip(self.public_ip);
        let v6 = self.address_v6.zip(self.public_ipv6);
        let v4 = v4.map(|(address, public)| (address.into(), public.into()));
        let v6 = v6.map(|(address, public)| (address.into(), public.into()));
        for (address, public) in v4.into_iter().chain(v6) {
            let (address, public): (IpAddr, IpAddr) = (address, public);
            write!(f, ", {address}")?;
            if public != address {
                write!(f, " known to peers as {public}")?;
            }
        }
        Ok(())
    }
}
