//! `subnet.env`: the file by which flanneld passes the node's subnets to the plugin, one
//! `KEY=value` a line. flanneld writes it ([`SubnetEnv::render`]) and reads at its start what an
//! earlier run wrote ([`previous()`]); the plugin reads it strictly ([`SubnetEnv::parse`]).

mod previous;

use go_compat::cidr;
use ipnetwork::IpNetwork;

pub use previous::{Previous, previous};

/// Longest text that is read, in bytes.
const MAX_LEN: usize = 64 << 10;

const NETWORK: &str = "FLANNEL_NETWORK";
const SUBNET: &str = "FLANNEL_SUBNET";
const IPV6_NETWORK: &str = "FLANNEL_IPV6_NETWORK";
const IPV6_SUBNET: &str = "FLANNEL_IPV6_SUBNET";
const MTU: &str = "FLANNEL_MTU";
const IPMASQ: &str = "FLANNEL_IPMASQ";

/// A complete file: it has a network and a subnet of at least one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// FLANNEL_NETWORK: networks of the cluster, host bits cleared, each once.
    pub networks: Vec<IpNetwork>,
    /// FLANNEL_SUBNET: subnet of the node, written as its first usable address (10.244.1.1/24).
    pub subnet: Option<IpNetwork>,
    /// FLANNEL_IPV6_NETWORK, as `networks`.
    pub ipv6_networks: Vec<IpNetwork>,
    /// FLANNEL_IPV6_SUBNET, as `subnet`.
    pub ipv6_subnet: Option<IpNetwork>,
    /// FLANNEL_MTU, in bytes.
    pub mtu: u32,
    /// FLANNEL_IPMASQ: flanneld masquerades, so that the plugin must not.
    pub ip_masq: bool,
}

/// Why a text is not a complete subnet.env, in upstream's wording where upstream refuses it too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is longer than any real file.
    #[error("{file} is longer than {MAX_LEN} bytes")]
    TooLong {
        /// Name of the file, as given to [`SubnetEnv::parse`].
        file: String,
    },
    /// A line is a known key without `=`.
    #[error("{file}, line {line}: {key} has no value")]
    NoValue {
        /// As in `TooLong`.
        file: String,
        /// Counted from 1.
        line: usize,
        /// FLANNEL_...
        key: String,
    },
    /// A network or a subnet is not a CIDR.
    #[error(transparent)]
    Cidr(#[from] cidr::ParseError),
    /// FLANNEL_MTU is not a number of 32 bits.
    #[error("strconv.ParseUint: parsing {value:?}: {reason}")]
    Mtu {
        /// As written.
        value: String,
        /// In Go's wording.
        reason: &'static str,
    },
    /// Keys are missing.
    #[error("{file} is missing {}", keys.join(", "))]
    Missing {
        /// As in `TooLong`.
        file: String,
        /// FLANNEL_...
        keys: Vec<&'static str>,
    },
}

impl SubnetEnv {
    /// Reads as upstream's plugin: a line splits at its first `=`, nothing is trimmed or unquoted,
    /// unknown keys are skipped, lists are separated by commas and may repeat. Errors name `file`.
    pub fn parse(text: &str, file: &str) -> Result<SubnetEnv, ParseError> {
        if text.len() > MAX_LEN {
            return Err(ParseError::TooLong { file: file.into() });
        }
        let mut keys = Keys::default();
        for (index, line) in text.split('\n').enumerate() {
            match line.split_once('=') {
                Some((key, value)) => keys.set(key, value)?,
                None if [NETWORK, SUBNET, IPV6_NETWORK, IPV6_SUBNET, MTU, IPMASQ]
                    .contains(&line) =>
                {
                    return Err(ParseError::NoValue {
                        file: file.into(),
                        line: index + 1,
                        key: line.into(),
                    });
                }
                None => {}
            }
        }
        keys.complete().map_err(|keys| ParseError::Missing {
            file: file.into(),
            keys,
        })
    }

    /// The text as Go's flanneld writes it: its order, a family only if it has a subnet, a newline
    /// after each line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let families = [
            (NETWORK, &self.networks, SUBNET, self.subnet),
            (
                IPV6_NETWORK,
                &self.ipv6_networks,
                IPV6_SUBNET,
                self.ipv6_subnet,
            ),
        ];
        for (network_key, networks, subnet_key, subnet) in families {
            let Some(subnet) = subnet else { continue };
            let networks: Vec<_> = networks.iter().map(IpNetwork::to_string).collect();
            let networks = networks.join(",");
            text.push_str(&format!(
                "{network_key}={networks}\n{subnet_key}={subnet}\n"
            ));
        }
        text.push_str(&format!("{MTU}={}\n{IPMASQ}={}\n", self.mtu, self.ip_masq));
        text
    }
}

/// The keys that were read so far.
#[derive(Default)]
struct Keys {
    networks: Vec<IpNetwork>,
    subnet: Option<IpNetwork>,
    ipv6_networks: Vec<IpNetwork>,
    ipv6_subnet: Option<IpNetwork>,
    mtu: Option<u32>,
    ip_masq: Option<bool>,
}

impl Keys {
    fn set(&mut self, key: &str, value: &str) -> Result<(), ParseError> {
        match key {
            NETWORK => add_networks(&mut self.networks, value)?,
            IPV6_NETWORK => add_networks(&mut self.ipv6_networks, value)?,
            SUBNET => self.subnet = Some(cidr::parse(value)?),
            IPV6_SUBNET => self.ipv6_subnet = Some(cidr::parse(value)?),
            MTU => self.mtu = Some(mtu(value)?),
            IPMASQ => self.ip_masq = Some(value == "true"),
            _ => {}
        }
        Ok(())
    }

    /// One family is enough. As upstream, network and subnet may be of different families. Err: the
    /// missing keys.
    fn complete(self) -> Result<SubnetEnv, Vec<&'static str>> {
        let mut missing = Vec::new();
        if self.networks.is_empty() && self.ipv6_networks.is_empty() {
            missing.extend([NETWORK, IPV6_NETWORK]);
        }
        if self.subnet.is_none() && self.ipv6_subnet.is_none() {
            missing.extend([SUBNET, IPV6_SUBNET]);
        }
        if self.mtu.is_none() {
            missing.push(MTU);
        }
        if self.ip_masq.is_none() {
            missing.push(IPMASQ);
        }
        match (self.mtu, self.ip_masq) {
            (Some(mtu), Some(ip_masq)) if missing.is_empty() => Ok(SubnetEnv {
                networks: self.networks,
                subnet: self.subnet,
                ipv6_networks: self.ipv6_networks,
                ipv6_subnet: self.ipv6_subnet,
                mtu,
                ip_masq,
            }),
            _ => Err(missing),
        }
    }
}

fn add_networks(networks: &mut Vec<IpNetwork>, list: &str) -> Result<(), ParseError> {
    for text in list.split(',') {
        let network = cidr::masked(cidr::parse(text)?);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(())
}

/// strconv.ParseUint(value, 10, 32)
fn mtu(value: &str) -> Result<u32, ParseError> {
    let error = |reason| ParseError::Mtu {
        value: value.into(),
        reason,
    };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error("invalid syntax"));
    }
    value.parse().map_err(|_| error("value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUAL: &str = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.0.1/24\n\
        FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42::1/64\n\
        FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    fn parse(text: &str) -> Result<SubnetEnv, String> {
        SubnetEnv::parse(text, "/f").map_err(|error| error.to_string())
    }

    fn net(text: &str) -> IpNetwork {
        cidr::parse(text).unwrap()
    }

    #[test]
    fn both_families_are_read_and_written() {
        let env = parse(DUAL).unwrap();
        assert_eq!(env.networks, [net("10.42.0.0/16")]);
        assert_eq!(env.subnet, Some(net("10.42.0.1/24")));
        assert_eq!(env.ipv6_networks, [net("2001:cafe:42::/56")]);
        assert_eq!((env.mtu, env.ip_masq), (1450, true));
        assert_eq!(env.render(), DUAL);
    }

    #[test]
    fn networks_are_merged_and_unknown_keys_skipped() {
        let env = parse(
            "# comment\n\nFLANNEL_NETWORK=10.1.2.3/16,192.168.0.0/16,10.1.0.0/16\nFLANNEL_NETWORK=10.1.0.0/16\n\
             FLANNEL_SUBNET=10.1.1.1/24\nOTHER\nOTHER=x=y\nFLANNEL_MTU=0\nFLANNEL_MTU=9000\nFLANNEL_IPMASQ=True",
        )
        .unwrap();
        assert_eq!(env.networks, [net("10.1.0.0/16"), net("192.168.0.0/16")]);
        assert_eq!((env.mtu, env.ip_masq), (9000, false));
    }

    #[test]
    fn errors_have_upstreams_wording() {
        let message = |text| parse(text).unwrap_err();
        assert_eq!(
            message(""),
            "/f is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
        );
        assert_eq!(
            message("FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_IPV6_SUBNET=::1/64\nFLANNEL_MTU=1\n"),
            "/f is missing FLANNEL_IPMASQ"
        );
        assert_eq!(
            message("A=B\nFLANNEL_SUBNET\n"),
            "/f, line 2: FLANNEL_SUBNET has no value"
        );
        assert_eq!(message("FLANNEL_SUBNET="), "invalid CIDR address: ");
        assert_eq!(
            message("FLANNEL_NETWORK=10.0.0.0/8,"),
            "invalid CIDR address: "
        );
        assert_eq!(
            message("FLANNEL_SUBNET=10.0.0.1/24\r\n"),
            "invalid CIDR address: 10.0.0.1/24\r"
        );
        assert_eq!(
            message("FLANNEL_SUBNET=\"10.0.0.1/24\""),
            "invalid CIDR address: \"10.0.0.1/24\""
        );
        assert_eq!(
            message("FLANNEL_MTU=+1"),
            "strconv.ParseUint: parsing \"+1\": invalid syntax"
        );
        assert_eq!(
            message("FLANNEL_MTU="),
            "strconv.ParseUint: parsing \"\": invalid syntax"
        );
        assert_eq!(
            message("FLANNEL_MTU=4294967296"),
            "strconv.ParseUint: parsing \"4294967296\": value out of range"
        );
        assert!(message(&"x".repeat(MAX_LEN + 1)).contains("longer than"));
    }

    #[test]
    fn truncated_files_are_refused() {
        for end in 0..DUAL.len() - "rue\n".len() {
            let part = &DUAL[..end];
            match parse(part) {
                Ok(_) => assert!(part.contains("FLANNEL_IPMASQ="), "{part}"),
                Err(why) => assert!(
                    why.contains("missing") || why.contains("invalid") || why.contains("no value"),
                    "{why}"
                ),
            }
        }
    }

    proptest! {
        #[test]
        fn render_and_parse_are_inverse(nets in prop::collection::btree_set(any::<[u8; 2]>(), 1..4), v6: bool, mtu: u32, ip_masq: bool) {
            let env = SubnetEnv {
                networks: nets.iter().map(|[a, b]| net(&format!("{a}.{b}.0.0/16"))).collect(),
                subnet: Some(net("10.1.2.1/24")),
                ipv6_networks: if v6 { vec![net("fc00::/48")] } else { vec![] },
                ipv6_subnet: v6.then(|| net("fc00::1/64")),
                mtu,
                ip_masq,
            };
            prop_assert_eq!(parse(&env.render()), Ok(env));
        }

        #[test]
        fn no_text_panics(lines in prop::collection::vec("(FLANNEL_(NETWORK|SUBNET|MTU|IPMASQ|IPV6_SUBNET)=?)?[0-9a-f.:/,='\" #]{0,20}", 0..6)) {
            let text = lines.join("\n");
            parse(&text).ok();
        }
    }
}
