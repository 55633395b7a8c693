//! subnet.env: what flanneld tells the plugin about this node's lease, `KEY=value` a line. Written
//! by the one, read strictly by the other, and read with patience by flanneld itself when it starts
//! and would like the same subnet again.
use go_compat::cidr;
use ipnetwork::IpNetwork;

/// No real file comes near it, in bytes.
const LONGEST: usize = 64 << 10;

const NETWORK: &str = "FLANNEL_NETWORK";
const SUBNET: &str = "FLANNEL_SUBNET";
const IPV6_NETWORK: &str = "FLANNEL_IPV6_NETWORK";
const IPV6_SUBNET: &str = "FLANNEL_IPV6_SUBNET";
const MTU: &str = "FLANNEL_MTU";
const IPMASQ: &str = "FLANNEL_IPMASQ";

/// The whole file. At least one network and one subnet of either family are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// FLANNEL_NETWORK: the cluster's networks, host bits cleared, each once
    pub networks: Vec<IpNetwork>,
    /// FLANNEL_SUBNET: this node's part, as written: flanneld writes the first usable address
    /// (10.244.1.1/24)
    pub subnet: Option<IpNetwork>,
    /// FLANNEL_IPV6_NETWORK, as `networks`
    pub ipv6_networks: Vec<IpNetwork>,
    /// FLANNEL_IPV6_SUBNET, as `subnet`
    pub ipv6_subnet: Option<IpNetwork>,
    /// FLANNEL_MTU, in bytes
    pub mtu: u32,
    /// FLANNEL_IPMASQ: flanneld masquerades, so that the plugin need not
    pub ip_masq: bool,
}

impl SubnetEnv {
    /// Reads as the plugin does: a line splits at its first `=`, nothing is trimmed or unquoted,
    /// unknown keys are skipped, lists are separated by commas and may repeat. `file` is named in
    /// the error. Err: text in upstream's wording: `invalid CIDR address: x`,
    /// `/run/flannel/subnet.env is missing FLANNEL_MTU, FLANNEL_IPMASQ`.
    pub fn parse(text: &str, file: &str) -> Result<SubnetEnv, String> {
        if text.len() > LONGEST {
            return Err(format!("{file} is longer than {LONGEST} bytes"));
        }
        let mut read = Read::default();
        for (index, line) in text.split('\n').enumerate() {
            let Some((key, value)) = line.split_once('=') else {
                let line_number = index + 1;
                if [NETWORK, SUBNET, IPV6_NETWORK, IPV6_SUBNET, MTU, IPMASQ].contains(&line) {
                    return Err(format!("{file}, line {line_number}: {line} has no value"));
                }
                continue;
            };
            read.take(key, value)?;
        }
        read.complete(file)
    }

    /// The file as flanneld writes it: its order, a family only if it has a subnet, a newline after
    /// each line.
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

#[derive(Default)]
struct Read {
    networks: Vec<IpNetwork>,
    subnet: Option<IpNetwork>,
    ipv6_networks: Vec<IpNetwork>,
    ipv6_subnet: Option<IpNetwork>,
    mtu: Option<u32>,
    ip_masq: Option<bool>,
}

impl Read {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
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

    /// One family is enough, and upstream does not ask that its network and its subnet are of the
    /// same one.
    fn complete(self, file: &str) -> Result<SubnetEnv, String> {
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
            _ => Err(format!("{file} is missing {}", missing.join(", "))),
        }
    }
}

fn add_networks(networks: &mut Vec<IpNetwork>, list: &str) -> Result<(), String> {
    for text in list.split(',') {
        let network = cidr::masked(cidr::parse(text)?);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(())
}

/// Go's strconv.ParseUint(value, 10, 32) and its messages.
fn mtu(value: &str) -> Result<u32, String> {
    let why = match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        true => match value.parse() {
            Ok(mtu) => return Ok(mtu),
            Err(_) => "value out of range",
        },
        false => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {value:?}: {why}"))
}

/// What an earlier run of flanneld left in its file; each part stands for itself.
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

/// Reads what can be read and never fails: spaces, quotes, comments and `export ` are put up with,
/// what is no CIDR of the right family is skipped, and a key with more than one CIDR counts as
/// absent. Of a repeated key the last counts.
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

    fn parse(text: &str) -> Result<SubnetEnv, String> {
        SubnetEnv::parse(text, "/f")
    }
    fn net(text: &str) -> IpNetwork {
        cidr::parse(text).unwrap()
    }

    #[test]
    fn both_families() {
        let env = parse(DUAL).unwrap();
        assert_eq!(env.networks, [net("10.42.0.0/16")]);
        assert_eq!(env.subnet, Some(net("10.42.0.1/24")));
        assert_eq!(env.ipv6_networks, [net("2001:cafe:42::/56")]);
        assert_eq!((env.mtu, env.ip_masq), (1450, true));
        assert_eq!(env.render(), DUAL);
    }

    #[test]
    fn several_networks_and_what_is_not_known() {
        let env = parse(
            "# comment\n\nFLANNEL_NETWORK=10.1.2.3/16,192.168.0.0/16,10.1.0.0/16\nFLANNEL_NETWORK=10.1.0.0/16\n\
             FLANNEL_SUBNET=10.1.1.1/24\nOTHER\nOTHER=x=y\nFLANNEL_MTU=0\nFLANNEL_MTU=9000\nFLANNEL_IPMASQ=True",
        )
        .unwrap();
        assert_eq!(env.networks, [net("10.1.0.0/16"), net("192.168.0.0/16")]);
        assert_eq!((env.mtu, env.ip_masq), (9000, false));
    }

    #[test]
    fn messages() {
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
        assert!(message(&"x".repeat(LONGEST + 1)).contains("longer than"));
    }

    #[test]
    fn half_written_files() {
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

    #[test]
    fn what_an_earlier_run_left() {
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
        fn comes_back(nets in prop::collection::btree_set(any::<[u8; 2]>(), 1..4), v6: bool, mtu: u32, ip_masq: bool) {
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
            previous(&text);
        }
    }
}
