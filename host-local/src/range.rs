//! One range of addresses inside a subnet (upstream: `Range`).

use go_compat::cidr;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A range as configured; None and "" mean the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RangeSpec {
    /// CIDR, required.
    pub(crate) subnet: Option<String>,
    /// Default: the network's address plus one.
    pub(crate) range_start: Option<String>,
    /// Default: the address before the broadcast address, or the last one for IPv6.
    pub(crate) range_end: Option<String>,
    /// Default: the network's address plus one.
    pub(crate) gateway: Option<String>,
}

/// A checked range: both ends are inside the subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) subnet: IpNetwork,
    pub(crate) start: IpAddr,
    /// Included.
    pub(crate) end: IpAddr,
    /// Never allocated; may be outside the subnet.
    pub(crate) gateway: IpAddr,
}

/// Why a range or range set is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    /// `subnet` is missing.
    #[error("IP <nil> not v4 nor v6")]
    NoSubnet,
    /// The prefix is /31, /32, /127 or /128.
    #[error("Network {0} too small to allocate from")]
    TooSmall(IpNetwork),
    /// The subnet is not a network address, like 10.0.0.5/24.
    #[error("Network has host bits set. For a subnet mask of length {} the network address is {}", .0.prefix(), .0.network())]
    HostBits(IpNetwork),
    /// An end (`RangeStart`, `RangeEnd`) is outside the subnet, or the start exceeds the end.
    #[error("{name} {ip} not in network {subnet}")]
    Outside {
        name: &'static str,
        ip: IpAddr,
        subnet: IpNetwork,
    },
    /// A set has no range.
    #[error("empty range set")]
    EmptySet,
    /// A set has IPv4 and IPv6 ranges.
    #[error("mixed address families")]
    MixedFamilies,
    /// Two ranges of a set overlap.
    #[error("subnets {0} and {1} overlap")]
    Overlap(Box<Range>, Box<Range>),
}

/// The parsed texts of a range. All sets are parsed before the first is checked, as upstream does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParsedSpec {
    subnet: Option<IpNetwork>,
    start: Option<IpAddr>,
    end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

impl RangeSpec {
    pub(crate) fn parse(&self) -> Result<ParsedSpec, cidr::ParseError> {
        let ip = |text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => cidr::parse_ip(text).map(Some),
        };
        Ok(ParsedSpec {
            subnet: self.subnet.as_deref().map(cidr::parse).transpose()?,
            start: ip(&self.range_start)?,
            end: ip(&self.range_end)?,
            gateway: ip(&self.gateway)?,
        })
    }
}

impl Range {
    /// Applies the defaults and checks the range.
    pub(crate) fn new(spec: &ParsedSpec) -> Result<Range, RangeError> {
        let subnet = spec.subnet.ok_or(RangeError::NoSubnet)?;
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        if subnet.ip() != subnet.network() {
            return Err(RangeError::HostBits(subnet));
        }
        let first = offset(subnet.network(), 1);
        let last = match subnet {
            IpNetwork::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.broadcast()) - 1)),
            IpNetwork::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let range = Range {
            subnet,
            start: spec.start.unwrap_or(first),
            end: spec.end.unwrap_or(last),
            gateway: spec.gateway.unwrap_or(first),
        };
        let outside = |name, ip| RangeError::Outside { name, ip, subnet };
        // the start is checked first, against a configured end but not against the default one
        if let Some(start) = spec.start
            && (!subnet.contains(start) || spec.end.is_some_and(|end| start > end))
        {
            return Err(outside("RangeStart", start));
        }
        if let Some(end) = spec.end
            && (!subnet.contains(end) || end < range.start)
        {
            return Err(outside("RangeEnd", end));
        }
        Ok(range)
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.start.is_ipv4() && self.start <= ip && ip <= self.end
    }

    /// True if the ranges have an address in common.
    pub(crate) fn overlaps(&self, other: &Range) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4()
            && self.start <= other.end
            && other.start <= self.end
    }

    /// The address with the subnet's prefix length: 10.1.2.3/24.
    pub(crate) fn with_prefix(&self, ip: IpAddr) -> IpNetwork {
        IpNetwork::new(ip, self.subnet.prefix()).unwrap_or_else(|_| ip.into())
    }

    /// The addresses from `from` to `to`, both included; none if `from` exceeds `to`.
    pub(crate) fn span(from: IpAddr, to: IpAddr) -> impl Iterator<Item = IpAddr> {
        let v4 = from.is_ipv4();
        (number(from)..=number(to)).map(move |n| address(n, v4))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// `ip` + `n`, at most the last address of the family.
pub(crate) fn offset(ip: IpAddr, n: u128) -> IpAddr {
    let last = if ip.is_ipv4() {
        u128::from(u32::MAX)
    } else {
        u128::MAX
    };
    address(number(ip).saturating_add(n).min(last), ip.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> Result<Range, String> {
        let text = |text: &str| Some(text.to_owned());
        let spec = RangeSpec {
            subnet: text(subnet),
            range_start: text(start),
            range_end: text(end),
            gateway: text(gateway),
        };
        let spec = spec.parse().map_err(|error| error.to_string())?;
        Range::new(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn ends_and_gateway_have_upstreams_defaults() {
        let v4 = range("10.1.2.0/24", "", "", "").unwrap();
        assert_eq!(v4.to_string(), "10.1.2.1-10.1.2.254");
        assert_eq!(v4.gateway.to_string(), "10.1.2.1");
        let v6 = range("fd00::/126", "", "", "").unwrap();
        assert_eq!(v6.to_string(), "fd00::1-fd00::3");
        let all = range("0.0.0.0/0", "", "", "").unwrap();
        assert_eq!(all.to_string(), "0.0.0.1-255.255.255.254");
    }

    #[test]
    fn configured_ends_may_be_network_and_broadcast_address() {
        let range = range("10.1.2.0/24", "10.1.2.0", "10.1.2.255", "10.9.9.9").unwrap();
        assert_eq!(range.to_string(), "10.1.2.0-10.1.2.255");
        assert_eq!(range.gateway.to_string(), "10.9.9.9");
    }

    #[test]
    fn invalid_ranges_are_refused_with_upstreams_messages() {
        for (spec, message) in [
            (
                ["10.0.0.0/31", "", "", ""],
                "Network 10.0.0.0/31 too small to allocate from",
            ),
            (
                ["fd00::/127", "", "", ""],
                "Network fd00::/127 too small to allocate from",
            ),
            (
                ["10.0.0.5/24", "", "", ""],
                "Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
            ),
            (
                ["10.0.0.0/24", "10.0.1.1", "", ""],
                "RangeStart 10.0.1.1 not in network 10.0.0.0/24",
            ),
            (
                ["10.0.0.0/24", "10.0.0.9", "10.0.0.3", ""],
                "RangeStart 10.0.0.9 not in network 10.0.0.0/24",
            ),
            (
                ["10.0.0.0/24", "", "fd00::1", ""],
                "RangeEnd fd00::1 not in network 10.0.0.0/24",
            ),
            (
                ["10.0.0.0/24", "", "10.0.0.0", ""],
                "RangeEnd 10.0.0.0 not in network 10.0.0.0/24",
            ),
            (["10.0.0.0", "", "", ""], "invalid CIDR address: 10.0.0.0"),
            (["10.0.0.0/24", "x", "", ""], "invalid IP address: x"),
        ] {
            let [subnet, start, end, gateway] = spec;
            assert_eq!(
                range(subnet, start, end, gateway).unwrap_err(),
                message,
                "{spec:?}"
            );
        }
        let nothing = RangeSpec::default().parse().unwrap();
        assert_eq!(Range::new(&nothing), Err(RangeError::NoSubnet));
    }
}
