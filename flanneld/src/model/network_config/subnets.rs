//! Which subnets a network has: upstream's defaults and checks, the same for both families.
//! Addresses are numbers here.

use super::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What differs between the families in upstream's checks.
pub(super) struct Family {
    bits: u8,
    /// stands before the names of keys
    prefix: &'static str,
    /// longest SubnetLen
    longest_subnet: u8,
    /// networks up to this length have subnets of length `default_subnet`
    longest_large_network: u8,
    default_subnet: u8,
    show: fn(u128) -> String,
}

pub(super) const V4: Family = Family {
    bits: 32,
    prefix: "",
    longest_subnet: 30,
    longest_large_network: 22,
    default_subnet: 24,
    show: |address| ipv4(address).to_string(),
};
pub(super) const V6: Family = Family {
    bits: 128,
    prefix: "IPv6",
    longest_subnet: 126,
    longest_large_network: 62,
    default_subnet: 64,
    show: |address| Ipv6Addr::from_bits(address).to_string(),
};

/// The keys of one family.
pub(super) struct Keyed {
    /// first address and prefix length
    pub(super) network: Option<(u128, u8)>,
    /// SubnetMin
    pub(super) min: Option<u128>,
    /// SubnetMax
    pub(super) max: Option<u128>,
    /// SubnetLen; 0 if not given
    pub(super) len: u8,
}

/// The subnets that may be leased.
pub(super) struct Subnets {
    /// first address of the first one
    pub(super) min: u128,
    /// first address of the last one
    pub(super) max: u128,
    /// prefix length of each
    pub(super) len: u8,
}

impl Family {
    /// Checks the given keys and sets the defaults of the others.
    pub(super) fn check(&self, keys: Keyed) -> Result<Subnets, Error> {
        let prefix = self.prefix;
        let network = keys.network.filter(|network| *network != (0, 0));
        let (first, network_len) = network.ok_or(Error::NoNetwork { prefix })?;
        let len = self.subnet_len(network_len, keys.len)?;
        let size = 1u128 << (self.bits - len);
        let all_bits = u128::MAX >> (128 - self.bits);
        let last = first | (all_bits >> network_len);
        // the first subnet is not leased: its first address is the network's own
        let min = keys.min.unwrap_or(first + size);
        let max = keys.max.unwrap_or(last - (size - 1));
        let ends = [("SubnetMin", min), ("SubnetMax", max)];
        for (key, address) in ends {
            if !(first..=last).contains(&address) {
                return Err(Error::OutOfRange { prefix, key });
            }
        }
        for (key, address) in ends {
            if address % size != 0 {
                let address = (self.show)(address);
                return Err(Error::NotOnBoundary {
                    prefix,
                    key,
                    address,
                });
            }
        }
        if min > max {
            return Err(Error::MinAboveMax {
                prefix,
                min: (self.show)(min),
                max: (self.show)(max),
            });
        }
        Ok(Subnets { min, max, len })
    }

    /// The given length, or the default; a small network has four subnets by default.
    fn subnet_len(&self, network: u8, given: u8) -> Result<u8, Error> {
        let prefix = self.prefix;
        let longest_network = self.longest_subnet - 2;
        match given {
            0 if network > longest_network => Err(Error::NetworkTooSmall {
                prefix,
                longest: longest_network,
            }),
            0 if network <= self.longest_large_network => Ok(self.default_subnet),
            0 => Ok(network + 2),
            len if len > self.longest_subnet => Err(Error::SubnetLen {
                prefix,
                limit: self.longest_subnet + 1,
            }),
            len if len < network + 2 => Err(Error::TooFewSubnets { prefix }),
            len => Ok(len),
        }
    }
}

/// The address whose number came from an IPv4 address.
pub(super) fn ipv4(number: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits((number & u128::from(u32::MAX)) as u32)
}
