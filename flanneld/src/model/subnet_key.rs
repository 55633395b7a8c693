//! The text that names a lease in etcd and in the lease API: `10.12.13.0-24`, `10.12.13.0-24&fd00:12:13::-56`.
use ipnetwork::{Ipv4Network, Ipv6Network};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The subnets of a lease. A lease without IPv4 is written `0.0.0.0-0&...`, as upstream's code would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubnetKey {
    /// IPv4
    pub v4: Option<Ipv4Network>,
    /// IPv6
    pub v6: Option<Ipv6Network>,
}

impl SubnetKey {
    /// True if it names nothing.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl fmt::Display for SubnetKey {
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

impl FromStr for SubnetKey {
    type Err = String;

    /// Strict: canonical addresses, no host bits, no more digits than needed; at most /31 and /127, as upstream.
    fn from_str(text: &str) -> Result<SubnetKey, String> {
        let bad = || {
            format!("{text:?} is not a subnet like 10.12.13.0-24 or 10.12.13.0-24&fd00:12:13::-56")
        };
        let (v4, v6) = match text.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (text, None),
        };
        let v4 = match part::<Ipv4Addr>(v4, 31).ok_or_else(bad)? {
            // stands for "no IPv4" beside an IPv6 subnet, and for nothing alone
            (ip, 0) if ip.is_unspecified() && v6.is_some() => None,
            (_, 0) => return Err(bad()),
            (ip, len) => Some(Ipv4Network::new(ip, len).map_err(|_| bad())?),
        };
        let v6 = match v6 {
            Some(v6) => {
                let (ip, len) = part::<Ipv6Addr>(v6, 127).ok_or_else(bad)?;
                Some(Ipv6Network::new(ip, len).map_err(|_| bad())?)
            }
            None => None,
        };
        let host_bits = v4.is_some_and(|net| net.ip() != net.network())
            || v6.is_some_and(|net| net.ip() != net.network());
        if host_bits || v6.is_some_and(|net| net.prefix() == 0) {
            return Err(bad());
        }
        Ok(SubnetKey { v4, v6 })
    }
}

/// `address-length`.
fn part<T: FromStr + fmt::Display>(text: &str, longest: u8) -> Option<(T, u8)> {
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
    fn both_families_and_each() {
        for text in [
            "10.12.13.0-24",
            "10.12.13.0-24&fd00:12:13::-56",
            "0.0.0.0-0&fd00:12:13::-56",
        ] {
            let key: SubnetKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert!(!key.is_empty());
        }
    }

    #[test]
    fn what_upstream_refuses_and_more() {
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
            assert!(bad.parse::<SubnetKey>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(ip: u32, len in 1u8..32, ip6: u128, len6 in 1u8..128, kind in 0..3) {
            let v4 = Ipv4Network::new(ip.into(), len).unwrap();
            let v6 = Ipv6Network::new(ip6.into(), len6).unwrap();
            let key = SubnetKey {
                v4: (kind != 1).then(|| Ipv4Network::new(v4.network(), len).unwrap()),
                v6: (kind != 0).then(|| Ipv6Network::new(v6.network(), len6).unwrap()),
            };
            prop_assert_eq!(key.to_string().parse::<SubnetKey>(), Ok(key));
        }
        #[test]
        fn no_text_panics(text in "[0-9a-f.:&/-]{0,40}") {
            drop(text.parse::<SubnetKey>());
        }
    }
}
