//! The subnets that an earlier run of flanneld had, so that it can ask for them again.

use crate::{IPV6_NETWORK, IPV6_SUBNET, NETWORK, SUBNET};
use go_compat::cidr;
use ipnetwork::IpNetwork;

/// The subnets in the file of an earlier run, each None if it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// FLANNEL_NETWORK, host bits cleared
    pub network: Option<IpNetwork>,
    /// FLANNEL_SUBNET, host bits cleared
    pub subnet: Option<IpNetwork>,
    /// FLANNEL_IPV6_NETWORK, host bits cleared
    pub ipv6_network: Option<IpNetwork>,
    /// FLANNEL_IPV6_SUBNET, host bits cleared
    pub ipv6_subnet: Option<IpNetwork>,
}

/// Reads the file of an earlier run, which another program or a person may have changed, and never
/// fails. Spaces, quotes, comments and `export ` are allowed. A value that is not exactly one CIDR
/// of the right family counts as absent. The last of a repeated key wins.
pub fn previous(text: &str) -> Previous {
    let mut previous = Previous::default();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let slot = match key.trim() {
            NETWORK => &mut previous.network,
            SUBNET => &mut previous.subnet,
            IPV6_NETWORK => &mut previous.ipv6_network,
            IPV6_SUBNET => &mut previous.ipv6_subnet,
            _ => continue,
        };
        *slot = only_cidr(unquoted(value), key.contains("IPV6"));
    }
    previous
}

fn only_cidr(list: &str, ipv6: bool) -> Option<IpNetwork> {
    let mut networks = list
        .split(',')
        .filter_map(|text| cidr::parse(text.trim()).ok())
        .filter(|network| network.is_ipv6() == ipv6);
    let first = networks.next()?;
    networks.next().is_none().then(|| cidr::masked(first))
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value
            .strip_prefix(quote)
            .and_then(|rest| rest.split_once(quote))
        {
            return inside;
        }
    }
    value
        .split_once('#')
        .map_or(value, |(before, _)| before.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUAL: &str = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.0.1/24\n\
        FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42::1/64\n\
        FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    fn net(text: &str) -> IpNetwork {
        cidr::parse(text).unwrap()
    }

    #[test]
    fn edited_files_are_read_as_far_as_possible() {
        let previous_of_dual = Previous {
            network: Some(net("10.42.0.0/16")),
            subnet: Some(net("10.42.0.0/24")),
            ipv6_network: Some(net("2001:cafe:42::/56")),
            ipv6_subnet: Some(net("2001:cafe:42::/64")),
        };
        assert_eq!(previous(DUAL), previous_of_dual);
        assert_eq!(
            previous(
                " export FLANNEL_SUBNET = \"10.42.0.1/24\" # mine\r\nFLANNEL_NETWORK=x,10.42.0.0/16 # c\n"
            ),
            Previous {
                ipv6_network: None,
                ipv6_subnet: None,
                ..previous_of_dual
            }
        );
        assert_eq!(
            previous(
                "FLANNEL_NETWORK=10.0.0.0/8,11.0.0.0/8\nFLANNEL_SUBNET=::/64\nFLANNEL_IPV6_SUBNET=10.0.0.0/8\nFLANNEL_MTU"
            ),
            Previous::default()
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(lines in prop::collection::vec("(export )?FLANNEL_(NETWORK|IPV6_SUBNET)[= ][0-9a-f.:/,='\" #]{0,20}", 0..6)) {
            previous(&lines.join("\n"));
        }
    }
}
