//! net-conf.json: the network that the cluster shares (upstream: pkg/subnet/config.go).
mod subnets;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use subnets::{Numbers, V4, V6};

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
            go_compat::json::from_slice(text.as_bytes()).map_err(|error| error.to_string())?;
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
    let keys: BackendKeys = go_compat::json::from_value(Value::Object(backend.clone()))
        .map_err(|error| format!("error decoding Backend property of config: {error}"))?;
    Ok(keys.kind.to_lowercase())
}

fn network_v4(text: &str) -> Result<Ipv4Network, String> {
    match go_compat::cidr::masked(go_compat::cidr::parse(text)?) {
        IpNetwork::V4(net) => Ok(net),
        IpNetwork::V6(_) => Err("invalid IPv4 CIDR format".to_owned()),
    }
}

/// Unlike upstream, which takes an IPv4 network here and fails later, this names the mistake.
fn network_v6(text: &str) -> Result<Ipv6Network, String> {
    match go_compat::cidr::masked(go_compat::cidr::parse(text)?) {
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
        go_compat::cidr::parse_ip(&text).map_err(|_| "invalid IP address format".to_owned())
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

#[cfg(test)]
mod tests;
