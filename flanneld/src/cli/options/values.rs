//! The values of the flags as the other folders need them.

use super::{Error, RuleOptions, UnderlayOptions};
use crate::{rules::RuleSettings, underlay::Selector};
use regex::Regex;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

impl UnderlayOptions {
    /// The underlay's selector for a network of these families.
    pub(crate) fn selector(&self, ipv4: bool, ipv6: bool) -> Result<Selector, Error> {
        let patterns = self.iface_regex.iter().map(|pattern| {
            Regex::new(pattern).map_err(|source| Error::Pattern {
                pattern: pattern.clone(),
                source,
            })
        });
        Ok(Selector {
            interfaces: self.iface.clone(),
            patterns: patterns.collect::<Result<_, _>>()?,
            can_reach: address("-iface-can-reach address", &self.iface_can_reach, Some)?,
            public_ip: address("public IP address", &self.public_ip, v4)?,
            public_ipv6: address("public IPv6 address", &self.public_ipv6, v6)?,
            ipv4,
            ipv6,
            pod_networks: Vec::new(),
        })
    }
}

impl RuleOptions {
    pub(crate) fn settings(&self) -> RuleSettings {
        RuleSettings {
            masquerade: self.ip_masq,
            fully_random: !self.ip_masq_fully_random_disable,
            forward: self.iptables_forward_rules,
        }
    }

    /// Of two looks at rules of whose changes the kernel says nothing: a second at least.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.iptables_resync.max(1).unsigned_abs())
    }
}

/// The address of a flag that may be empty; `what` names it in the error.
fn address<T>(
    what: &'static str,
    text: &str,
    of_family: impl FnOnce(IpAddr) -> Option<T>,
) -> Result<Option<T>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = go_compat::cidr::parse_ip(text).ok().and_then(of_family);
    let invalid = || Error::Address {
        what,
        text: text.to_owned(),
    };
    address.map(Some).ok_or_else(invalid)
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_the_wrong_family_or_form_is_refused() {
        let parse = |text| address("public IP address", text, v4);
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("10.0.0.1").unwrap(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        for bad in ["10.0.0", "fd00::1", "10.0.0.01", "x"] {
            assert_eq!(
                parse(bad).unwrap_err().to_string(),
                format!("invalid public IP address: {bad}")
            );
        }
    }
}
