//! The subnets of one node, and the text that names them in etcd and in the lease API.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The subnets of a node: at most one of each address family.
///
/// As text it is upstream's key: `10.12.13.0-24`, `10.12.13.0-24&fd00:12:13::-56`. Without IPv4 the
/// key is
/// `0.0.0.0-0&...`, as upstream's code would write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subnets {
    /// The IPv4 subnet.
    pub(crate) v4: Option<Ipv4Network>,
    /// The IPv6 subnet.
    pub(crate) v6: Option<Ipv6Network>,
}

/// The text is not a key of subnets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a subnet like 10.12.13.0-24 or 10.12.13.0-24&fd00:12:13::-56")]
pub(crate) struct InvalidSubnets(String);

impl Subnets {
    /// True if there is no subnet in either family.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// True if the two share an address.
    pub(crate) fn overlaps(&self, other: &Subnets) -> bool {
        let v4 = self.v4.zip(other.v4).is_some_and(|(a, b)| a.overlaps(b));
        let v6 = self.v6.zip(other.v6).is_some_and(|(a, b)| a.overlaps(b));
        v4 || v6
    }

    /// True if each subnet of the other, which may lack a family, is one of these.
    pub(crate) fn includes(&self, other: &Subnets) -> bool {
        let v4 = other.v4.is_none() || other.v4 == self.v4;
        let v6 = other.v6.is_none() || other.v6 == self.v6;
        v4 && v6
    }

    /// For messages: `10.244.1.0/24 and fd00::/64`.
    pub(crate) fn cidrs(&self) -> String {
        let v4 = self.v4.map(|net| net.to_string());
        let v6 = self.v6.map(|net| net.to_string());
        v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ")
    }
}

/// The subnets that an earlier run wrote to subnet.env.
impl From<&subnet_env::Previous> for Subnets {
    fn from(previous: &subnet_env::Previous) -> Subnets {
        let v4 = previous.subnet.and_then(|net| match net {
            IpNetwork::V4(net) => Some(net),
            IpNetwork::V6(_) => None,
        });
        let v6 = previous.ipv6_subnet.and_then(|net| match net {
            IpNetwork::V6(net) => Some(net),
            IpNetwork::V4(_) => None,
        });
        Subnets { v4, v6 }
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.v4 {
            Some(net) => write!(f, "{}-{}", net.ip(), net.prefix())?,
            None => f.write_str("0.0.0.0-0")?,
        }
        match self.v6 {
            Some(net) => write!(f, "&{}-{}", net.ip(), net.prefix()),
            None => Ok(()),
        }
    }
}

impl FromStr for Subnets {
    type Err = InvalidSubnets;

    /// Strict: canonical addresses without host bits, no leading zeros, at most /31 and /127
    /// (upstream's bounds).
    fn from_str(text: &str) -> Result<Subnets, InvalidSubnets> {
        parse(text).ok_or_else(|| InvalidSubnets(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Subnets> {
    let (v4, v6) = match text.split_once('&') {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (text, None),
    };
    let v4 = match address_and_length::<Ipv4Addr>(v4, 31)? {
        (ip, 0) if ip.is_unspecified() && v6.is_some() => None,
        (_, 0) => return None,
        (ip, len) => Some(Ipv4Network::new(ip, len).ok()?),
    };
    let v6 = match v6.map(|v6| address_and_length::<Ipv6Addr>(v6, 127)) {
        None => None,
        Some(part) => match part? {
            (_, 0) => return None,
            (ip, len) => Some(Ipv6Network::new(ip, len).ok()?),
        },
    };
    let host_bits = v4.is_some_and(|net| net.ip() != net.network())
        || v6.is_some_and(|net| net.ip() != net.network());
    (!host_bits).then_some(Subnets { v4, v6 })
}

fn address_and_length<T: FromStr + fmt::Display>(text: &str, longest: u8) -> Option<(T, u8)> {
    let (ip, len) = text.rsplit_once('-')?;
    let address: T = ip.parse().ok()?;
    let length: u8 = len.parse().ok()?;
    let canonical = address.to_string() == ip && length.to_string() == len;
    (canonical && length <= longest).then_some((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_of_either_or_both_families_round_trips() {
        for text in [
            "10.12.13.0-24",
            "10.12.13.0-24&fd00:12:13::-56",
            "0.0.0.0-0&fd00:12:13::-56",
        ] {
            let key: Subnets = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert!(!key.is_empty());
        }
    }

    #[test]
    fn malformed_or_non_canonical_keys_are_refused() {
        for bad in [
            "",
            "10",
            "10.12.13.0",
            "10.12.13-24",
            "10.12.13.300-24",
            "10.12.13.0-24hi",
            "&2001::-56",
            "10.12.13.0-24&:12:13:-56",
            "10.12.13.0-24&20011::-56",
            "10.12.13.0-24&2001-56",
            "10.12.13.0-24&2001::",
            "10.12.13.0-24&2001::-56hi",
            "10.12.13.0-24&",
            "10.12.13.0-32",
            "10.12.13.0-024",
            "10.12.13.0-+24",
            "10.12.13.1-24",
            "010.12.13.0-24",
            "0.0.0.0-0",
            "../10.12.13.0-24",
            "10.12.13.0-24&fd00::1-56",
            "10.12.13.0-24&FD00::-56",
            "10.12.13.0-24&fd00::-128",
            "0.0.0.0-0&::-0",
        ] {
            assert!(bad.parse::<Subnets>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_in_one_family_is_overlap() {
        let subnets = |text: &str| text.parse::<Subnets>().unwrap();
        let both = subnets("10.1.2.0-24&fd00:1::-64");
        for other in [
            "10.1.0.0-16",
            "10.1.2.128-25&fd00:9::-64",
            "0.0.0.0-0&fd00::-16",
        ] {
            assert!(both.overlaps(&subnets(other)), "{other}");
            assert!(subnets(other).overlaps(&both), "{other}");
        }
        assert!(!both.overlaps(&subnets("10.1.3.0-24&fd00:2::-64")));
        assert!(!subnets("10.1.2.0-24").overlaps(&subnets("0.0.0.0-0&fd00:1::-64")));
        assert_eq!(both.cidrs(), "10.1.2.0/24 and fd00:1::/64");
    }

    proptest! {
        #[test]
        fn every_key_round_trips(ip: u32, len in 1u8..32, ip6: u128, len6 in 1u8..128, kind in 0..3) {
            let v4 = Ipv4Network::new(ip.into(), len).unwrap();
            let v6 = Ipv6Network::new(ip6.into(), len6).unwrap();
            let key = Subnets {
                v4: (kind != 1).then(|| Ipv4Network::new(v4.network(), len).unwrap()),
                v6: (kind != 0).then(|| Ipv6Network::new(v6.network(), len6).unwrap()),
            };
            prop_assert_eq!(key.to_string().parse::<Subnets>(), Ok(key));
        }
        #[test]
        fn no_text_panics(text in "[0-9a-f.:&/-]{0,40}") {
            drop(text.parse::<Subnets>());
        }
    }
}
