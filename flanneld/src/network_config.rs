//! net-conf.json: the network that the cluster shares (upstream: pkg/subnet/config.go).
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The configuration, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Default true.
    pub enable_ipv4: bool,
    /// Default false.
    pub enable_ipv6: bool,
    /// Rules by nftables.
    pub enable_nftables: bool,
    /// Masked.
    pub network: Option<Ipv4Network>,
    /// Masked.
    pub ipv6_network: Option<Ipv6Network>,
    /// First subnet that may be leased.
    pub subnet_min: Option<Ipv4Addr>,
    /// Last.
    pub subnet_max: Option<Ipv4Addr>,
    /// Prefix length of a subnet, 0 while not known.
    pub subnet_len: u8,
    /// First subnet that may be leased, IPv6.
    pub ipv6_subnet_min: Option<Ipv6Addr>,
    /// Last.
    pub ipv6_subnet_max: Option<Ipv6Addr>,
    /// Prefix length of a subnet, 0 while not known.
    pub ipv6_subnet_len: u8,
    /// Lower-cased `Backend.Type`; "udp" if Backend is absent, "" if it has no Type.
    pub backend_type: String,
    /// The whole Backend object.
    pub backend: Map<String, Value>,
    /// The text it was read from, for GET config.
    pub raw: String,
}

/// The keys, as they stand in the file.
#[derive(Deserialize)]
#[serde(default)]
struct Keys {
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "EnableNFTables")]
    enable_nftables: bool,
    #[serde(rename = "Network")]
    network: Option<String>,
    #[serde(rename = "IPv6Network")]
    ipv6_network: Option<String>,
    #[serde(rename = "SubnetMin")]
    subnet_min: Option<String>,
    #[serde(rename = "SubnetMax")]
    subnet_max: Option<String>,
    #[serde(rename = "IPv6SubnetMin")]
    ipv6_subnet_min: Option<String>,
    #[serde(rename = "IPv6SubnetMax")]
    ipv6_subnet_max: Option<String>,
    #[serde(rename = "SubnetLen")]
    subnet_len: u64,
    #[serde(rename = "IPv6SubnetLen")]
    ipv6_subnet_len: u64,
    #[serde(rename = "Backend")]
    backend: Option<Map<String, Value>>,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            enable_ipv4: true,
            enable_ipv6: false,
            enable_nftables: false,
            network: None,
            ipv6_network: None,
            subnet_min: None,
            subnet_max: None,
            ipv6_subnet_min: None,
            ipv6_subnet_max: None,
            subnet_len: 0,
            ipv6_subnet_len: 0,
            backend: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BackendKeys {
    #[serde(rename = "Type")]
    kind: String,
}

impl NetworkConfig {
    /// Parses by Go's rules (case-insensitive keys) with upstream's messages; no checks of subnets, nor whether any
    /// family is enabled.
    pub fn parse(text: &str) -> Result<NetworkConfig, String> {
        let keys: Keys =
            cni_conf::go_json::from_slice(text.as_bytes()).map_err(|error| error.to_string())?;
        let backend_type = match &keys.backend {
            None => "udp".to_owned(),
            Some(backend) => backend_type(backend)?,
        };
        Ok(NetworkConfig {
            enable_ipv4: keys.enable_ipv4,
            enable_ipv6: keys.enable_ipv6,
            enable_nftables: keys.enable_nftables,
            network: keys.network.as_deref().map(network_v4).transpose()?,
            ipv6_network: keys.ipv6_network.as_deref().map(network_v6).transpose()?,
            subnet_min: address_v4(keys.subnet_min)?,
            subnet_max: address_v4(keys.subnet_max)?,
            // a length that no family has is refused by check_subnets, and means nothing where that is not called
            subnet_len: u8::try_from(keys.subnet_len).unwrap_or(u8::MAX),
            ipv6_subnet_min: address_v6(keys.ipv6_subnet_min)?,
            ipv6_subnet_max: address_v6(keys.ipv6_subnet_max)?,
            ipv6_subnet_len: u8::try_from(keys.ipv6_subnet_len).unwrap_or(u8::MAX),
            backend_type,
            backend: keys.backend.unwrap_or_default(),
            raw: text.to_owned(),
        })
    }

    /// Fills in and checks SubnetLen, SubnetMin, SubnetMax (etcd and embedded managers), messages as upstream's.
    pub fn check_subnets(&mut self) -> Result<(), String> {
        if self.enable_ipv4 {
            let net = self
                .network
                .filter(|net| !is_zero(net.ip().into(), net.prefix()));
            let net =
                net.ok_or("please define a correct Network parameter in the flannel config")?;
            let range = V4.check(
                Numbers {
                    network: u32::from(net.ip()).into(),
                    prefix: net.prefix(),
                    min: self.subnet_min.map(|ip| u32::from(ip).into()),
                    max: self.subnet_max.map(|ip| u32::from(ip).into()),
                    len: self.subnet_len,
                },
                |number| Ipv4Addr::from(low32(number)).to_string(),
            )?;
            self.subnet_len = range.len;
            self.subnet_min = Some(low32(range.min).into());
            self.subnet_max = Some(low32(range.max).into());
        }
        if self.enable_ipv6 {
            let net = self
                .ipv6_network
                .filter(|net| !is_zero(net.ip().into(), net.prefix()));
            let net =
                net.ok_or("please define a correct IPv6Network parameter in the flannel config")?;
            let range = V6.check(
                Numbers {
                    network: net.ip().into(),
                    prefix: net.prefix(),
                    min: self.ipv6_subnet_min.map(u128::from),
                    max: self.ipv6_subnet_max.map(u128::from),
                    len: self.ipv6_subnet_len,
                },
                |number| Ipv6Addr::from(number).to_string(),
            )?;
            self.ipv6_subnet_len = range.len;
            self.ipv6_subnet_min = Some(range.min.into());
            self.ipv6_subnet_max = Some(range.max.into());
        }
        Ok(())
    }
}

fn backend_type(backend: &Map<String, Value>) -> Result<String, String> {
    let keys: BackendKeys = cni_conf::go_json::from_value(Value::Object(backend.clone()))
        .map_err(|error| format!("error decoding Backend property of config: {error}"))?;
    Ok(keys.kind.to_lowercase())
}

fn network_v4(text: &str) -> Result<Ipv4Network, String> {
    match cni_conf::cidr::masked(cni_conf::cidr::parse(text)?) {
        IpNetwork::V4(net) => Ok(net),
        IpNetwork::V6(_) => Err("invalid IPv4 CIDR format".to_owned()),
    }
}

/// Unlike upstream, which takes an IPv4 network here and fails later, this names the mistake.
fn network_v6(text: &str) -> Result<Ipv6Network, String> {
    match cni_conf::cidr::masked(cni_conf::cidr::parse(text)?) {
        IpNetwork::V6(net) => Ok(net),
        IpNetwork::V4(_) => Err("invalid IPv6 CIDR format".to_owned()),
    }
}

/// An address; the unspecified one means "not set", as upstream.
fn address_v4(text: Option<String>) -> Result<Option<Ipv4Addr>, String> {
    match parse_ip(text)? {
        None => Ok(None),
        Some(IpAddr::V4(ip)) => Ok(Some(ip).filter(|ip| !ip.is_unspecified())),
        Some(IpAddr::V6(_)) => Err("invalid IPv4 address format".to_owned()),
    }
}

fn address_v6(text: Option<String>) -> Result<Option<Ipv6Addr>, String> {
    match parse_ip(text)? {
        None => Ok(None),
        Some(IpAddr::V6(ip)) => Ok(Some(ip).filter(|ip| !ip.is_unspecified())),
        Some(IpAddr::V4(_)) => Err("invalid IPv6 address format".to_owned()),
    }
}

fn parse_ip(text: Option<String>) -> Result<Option<IpAddr>, String> {
    text.map(|text| {
        cni_conf::cidr::parse_ip(&text).map_err(|_| "invalid IP address format".to_owned())
    })
    .transpose()
}

fn is_zero(ip: IpAddr, prefix: u8) -> bool {
    ip.is_unspecified() && prefix == 0
}

/// The low half of a number that came from an IPv4 address.
fn low32(number: u128) -> u32 {
    (number & u128::from(u32::MAX)) as u32
}

/// What differs between the families in upstream's checks.
struct Family {
    bits: u8,
    /// "" or "IPv6", before the names of keys
    prefix: &'static str,
    /// longest SubnetLen
    longest: u8,
    too_long: &'static str,
    /// networks up to this length get subnets of length `usual`
    roomy: u8,
    usual: u8,
    too_small: &'static str,
}

const V4: Family = Family {
    bits: 32,
    prefix: "",
    longest: 30,
    too_long: "SubnetLen must be less than /31",
    roomy: 22,
    usual: 24,
    too_small: "network is too small. Minimum useful network prefix is /28",
};
const V6: Family = Family {
    bits: 128,
    prefix: "IPv6",
    longest: 126,
    too_long: "SubnetLen must be less than /127",
    roomy: 62,
    usual: 64,
    too_small: "IPv6Network is too small. Minimum useful network prefix is /124",
};

/// A network and its keys, as numbers.
struct Numbers {
    network: u128,
    prefix: u8,
    min: Option<u128>,
    max: Option<u128>,
    /// 0: not given
    len: u8,
}

struct Range {
    min: u128,
    max: u128,
    len: u8,
}

impl Family {
    fn check(&self, numbers: Numbers, show: impl Fn(u128) -> String) -> Result<Range, String> {
        let len = self.subnet_len(numbers.prefix, numbers.len)?;
        let size = 1u128 << (self.bits - len);
        let last_address = numbers.network | (self.all() >> numbers.prefix);
        let inside = |number: u128| (numbers.network..=last_address).contains(&number);
        let name = self.prefix;
        // the first subnet is not used: its first address is the network's own
        let min = numbers.min.unwrap_or(numbers.network + size);
        if !inside(min) {
            return Err(format!(
                "{name}SubnetMin is not in the range of the {name}Network"
            ));
        }
        let max = numbers.max.unwrap_or(last_address - (size - 1));
        if !inside(max) {
            return Err(format!(
                "{name}SubnetMax is not in the range of the {name}Network"
            ));
        }
        for (key, number) in [("SubnetMin", min), ("SubnetMax", max)] {
            if number % size != 0 {
                return Err(format!(
                    "{name}{key} is not on a SubnetLen boundary: {}",
                    show(number)
                ));
            }
        }
        Ok(Range { min, max, len })
    }

    /// The given length, checked, or the default: the usual one, or four subnets if the network is small.
    fn subnet_len(&self, network: u8, given: u8) -> Result<u8, String> {
        if given > 0 {
            if given > self.longest {
                return Err(self.too_long.to_owned());
            }
            if given < network + 2 {
                return Err("network must be able to accommodate at least four subnets".to_owned());
            }
            Ok(given)
        } else if network > self.longest - 2 {
            Err(self.too_small.to_owned())
        } else if network <= self.roomy {
            Ok(self.usual)
        } else {
            Ok(network + 2)
        }
    }

    /// All bits of an address.
    fn all(&self) -> u128 {
        u128::MAX >> (128 - self.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(text: &str) -> Result<NetworkConfig, String> {
        let mut config = NetworkConfig::parse(text)?;
        config.check_subnets()?;
        Ok(config)
    }

    #[test]
    fn defaults() {
        let config = checked(r#"{"Network":"10.3.0.0/16"}"#).unwrap();
        assert!(config.enable_ipv4 && !config.enable_ipv6 && !config.enable_nftables);
        assert_eq!(config.backend_type, "udp");
        assert_eq!(config.subnet_len, 24);
        assert_eq!(config.subnet_min, Some([10, 3, 1, 0].into()));
        assert_eq!(config.subnet_max, Some([10, 3, 255, 0].into()));
    }

    #[test]
    fn keys_in_any_case_and_both_families() {
        let config = checked(
            r#"{"network":"10.3.7.9/16","enableIPv6":true,"ipv6Network":"fc00::/48","ENABLENFTABLES":true,
                "subnetlen":28,"SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","backend":{"type":"VXLAN","VNI":7},"x":[]}"#,
        )
        .unwrap();
        assert_eq!(config.network, Some("10.3.0.0/16".parse().unwrap()));
        assert_eq!(config.ipv6_network, Some("fc00::/48".parse().unwrap()));
        assert!(config.enable_ipv6 && config.enable_nftables);
        assert_eq!((config.subnet_len, config.ipv6_subnet_len), (28, 64));
        assert_eq!(config.subnet_min, Some([10, 3, 5, 0].into()));
        assert_eq!(
            config.ipv6_subnet_min,
            Some("fc00:0:0:1::".parse().unwrap())
        );
        assert_eq!(
            config.ipv6_subnet_max,
            Some("fc00:0:0:ffff::".parse().unwrap())
        );
        assert_eq!(config.backend_type, "vxlan");
        assert_eq!(config.backend["VNI"], 7);
    }

    #[test]
    fn a_backend_without_type_has_none() {
        assert_eq!(
            NetworkConfig::parse(r#"{"Backend":{}}"#)
                .unwrap()
                .backend_type,
            ""
        );
    }

    #[test]
    fn messages_of_bad_values() {
        for (text, message) in [
            (
                r#"{"Network":"10.3.0.0"}"#,
                "invalid CIDR address: 10.3.0.0",
            ),
            (r#"{"Network":"fc00::/48"}"#, "invalid IPv4 CIDR format"),
            (
                r#"{"IPv6Network":"10.3.0.0/16"}"#,
                "invalid IPv6 CIDR format",
            ),
            (r#"{"SubnetMin":"10.3.0"}"#, "invalid IP address format"),
            (r#"{"SubnetMax":"fc00::"}"#, "invalid IPv4 address format"),
            (
                r#"{"IPv6SubnetMin":"10.3.0.0"}"#,
                "invalid IPv6 address format",
            ),
        ] {
            assert_eq!(NetworkConfig::parse(text).unwrap_err(), message, "{text}");
        }
        for text in [
            "",
            "{",
            "[]",
            r#"{"Network":7}"#,
            r#"{"EnableIPv4":"yes"}"#,
            r#"{"SubnetLen":-1}"#,
            r#"{"SubnetLen":"24"}"#,
            r#"{"Backend":"vxlan"}"#,
            r#"{"Backend":{"Type":7}}"#,
        ] {
            assert!(NetworkConfig::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_of_subnets_that_do_not_fit() {
        let v4 = |rest: &str| format!(r#"{{"Network":"10.3.0.0/16"{rest}}}"#);
        let v6 = |rest: &str| {
            format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"{rest}}}"#)
        };
        for (text, message) in [
            (
                "{}".into(),
                "please define a correct Network parameter in the flannel config",
            ),
            (
                r#"{"Network":"0.0.0.0/0"}"#.into(),
                "please define a correct Network parameter in the flannel config",
            ),
            (v4(r#","SubnetLen":31"#), "SubnetLen must be less than /31"),
            (v4(r#","SubnetLen":300"#), "SubnetLen must be less than /31"),
            (
                v4(r#","SubnetLen":17"#),
                "network must be able to accommodate at least four subnets",
            ),
            (
                r#"{"Network":"10.3.0.0/29"}"#.into(),
                "network is too small. Minimum useful network prefix is /28",
            ),
            (
                v4(r#","SubnetMin":"10.4.0.0""#),
                "SubnetMin is not in the range of the Network",
            ),
            (
                v4(r#","SubnetMax":"10.2.0.0""#),
                "SubnetMax is not in the range of the Network",
            ),
            (
                v4(r#","SubnetMin":"10.3.0.1""#),
                "SubnetMin is not on a SubnetLen boundary: 10.3.0.1",
            ),
            (
                v4(r#","SubnetMax":"10.3.9.1""#),
                "SubnetMax is not on a SubnetLen boundary: 10.3.9.1",
            ),
            (
                r#"{"EnableIPv4":false,"EnableIPv6":true}"#.into(),
                "please define a correct IPv6Network parameter in the flannel config",
            ),
            (
                v6(r#","IPv6SubnetLen":127"#),
                "SubnetLen must be less than /127",
            ),
            (
                v6(r#","IPv6SubnetLen":49"#),
                "network must be able to accommodate at least four subnets",
            ),
            (
                v6(r#","IPv6Network":"fc00::/125""#),
                "IPv6Network is too small. Minimum useful network prefix is /124",
            ),
            (
                v6(r#","IPv6SubnetMin":"fd00::""#),
                "IPv6SubnetMin is not in the range of the IPv6Network",
            ),
            (
                v6(r#","IPv6SubnetMax":"fb00::""#),
                "IPv6SubnetMax is not in the range of the IPv6Network",
            ),
            (
                v6(r#","IPv6SubnetMin":"fc00::1""#),
                "IPv6SubnetMin is not on a SubnetLen boundary: fc00::1",
            ),
            (
                v6(r#","IPv6SubnetMax":"fc00::1""#),
                "IPv6SubnetMax is not on a SubnetLen boundary: fc00::1",
            ),
        ] {
            assert_eq!(checked(&text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn small_networks_get_four_subnets() {
        let config = checked(r#"{"Network":"10.3.0.0/23"}"#).unwrap();
        assert_eq!(config.subnet_len, 25);
        let config = checked(r#"{"Network":"255.255.255.240/28"}"#).unwrap();
        assert_eq!(
            (config.subnet_len, config.subnet_max),
            (30, Some([255, 255, 255, 252].into()))
        );
        let config = checked(
            r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"}"#,
        )
        .unwrap();
        assert_eq!(config.ipv6_subnet_len, 126);
        assert_eq!(
            config.ipv6_subnet_max,
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            drop(checked(&text));
        }
        #[test]
        fn no_numbers_panic(ip: u32, len in 0u8..=32, subnet in 0u64..400, ip6: u128, len6 in 0u8..=128, subnet6 in 0u64..400) {
            let text = format!(
                r#"{{"EnableIPv6":true,"Network":"{}/{len}","SubnetLen":{subnet},"IPv6Network":"{}/{len6}","IPv6SubnetLen":{subnet6}}}"#,
                Ipv4Addr::from(ip), Ipv6Addr::from(ip6)
            );
            if let Ok(config) = checked(&text) {
                prop_assert!(config.subnet_min <= config.subnet_max && config.ipv6_subnet_min <= config.ipv6_subnet_max);
            }
        }
    }
}
