//! net-conf.json: the network that the cluster shares (upstream: pkg/subnet/config.go).

mod changes;
mod error;
mod ranges;
mod subnets;

pub(crate) use changes::Change;
pub(crate) use error::Error;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use subnets::{Keyed, V4, V6};

/// The configuration with its defaults.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct NetworkConfig {
    /// default true
    pub(crate) enable_ipv4: bool,
    /// default false
    pub(crate) enable_ipv6: bool,
    /// nftables in place of iptables
    pub(crate) enable_nftables: bool,
    /// host bits cleared
    pub(crate) network: Option<Ipv4Network>,
    /// host bits cleared
    pub(crate) ipv6_network: Option<Ipv6Network>,
    /// first subnet that may be leased
    pub(crate) subnet_min: Option<Ipv4Addr>,
    /// last subnet that may be leased
    pub(crate) subnet_max: Option<Ipv4Addr>,
    /// prefix length of a subnet; 0 until `check_subnets` has set the default
    pub(crate) subnet_len: u8,
    /// as `subnet_min`
    pub(crate) ipv6_subnet_min: Option<Ipv6Addr>,
    /// as `subnet_max`
    pub(crate) ipv6_subnet_max: Option<Ipv6Addr>,
    /// as `subnet_len`
    pub(crate) ipv6_subnet_len: u8,
    /// `Backend.Type` in lower case; "udp" without Backend, "" if Backend has no Type
    pub(crate) backend_type: String,
    /// the whole Backend object
    pub(crate) backend: Map<String, Value>,
    /// the text that was parsed, as GET config serves it
    pub(crate) raw: String,
}

/// Without the text and the keys of the backend: a PSK may be among them.
impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkConfig {
            enable_ipv4,
            enable_ipv6,
            enable_nftables,
            network,
            ipv6_network,
            subnet_min,
            subnet_max,
            subnet_len,
            ipv6_subnet_min,
            ipv6_subnet_max,
            ipv6_subnet_len,
            backend_type,
            backend: _,
            raw: _,
        } = self;
        f.debug_struct("NetworkConfig")
            .field("enable_ipv4", enable_ipv4)
            .field("enable_ipv6", enable_ipv6)
            .field("enable_nftables", enable_nftables)
            .field("network", network)
            .field("ipv6_network", ipv6_network)
            .field("subnets", &(subnet_min, subnet_max, subnet_len))
            .field(
                "ipv6_subnets",
                &(ipv6_subnet_min, ipv6_subnet_max, ipv6_subnet_len),
            )
            .field("backend_type", backend_type)
            .finish_non_exhaustive()
    }
}

/// The keys of the file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Keys {
    #[serde(rename = "EnableIPv4", default = "enabled")]
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

fn enabled() -> bool {
    true
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BackendKeys {
    #[serde(rename = "Type")]
    kind: String,
}

impl NetworkConfig {
    /// Parses by Go's rules (case-insensitive keys) with upstream's messages. It checks neither the
    /// subnets nor whether any family is enabled; the network of an enabled one is one that pods
    /// can have.
    pub(crate) fn parse(text: &str) -> Result<NetworkConfig, Error> {
        let keys: Keys = go_compat::json::from_slice(text.as_bytes()).map_err(Error::Json)?;
        let backend_type = match &keys.backend {
            None => "udp".to_owned(),
            Some(backend) => backend_type(backend)?,
        };
        let config = NetworkConfig {
            enable_ipv4: keys.enable_ipv4,
            enable_ipv6: keys.enable_ipv6,
            enable_nftables: keys.enable_nftables,
            network: keys.network.as_deref().map(network_v4).transpose()?,
            ipv6_network: keys.ipv6_network.as_deref().map(network_v6).transpose()?,
            subnet_min: address_v4("SubnetMin", keys.subnet_min)?,
            subnet_max: address_v4("SubnetMax", keys.subnet_max)?,
            // check_subnets refuses a length that no family has; nothing uses it without that check
            subnet_len: u8::try_from(keys.subnet_len).unwrap_or(u8::MAX),
            ipv6_subnet_min: address_v6("IPv6SubnetMin", keys.ipv6_subnet_min)?,
            ipv6_subnet_max: address_v6("IPv6SubnetMax", keys.ipv6_subnet_max)?,
            ipv6_subnet_len: u8::try_from(keys.ipv6_subnet_len).unwrap_or(u8::MAX),
            backend_type,
            backend: keys.backend.unwrap_or_default(),
            raw: text.to_owned(),
        };
        config.check_ranges()?;
        Ok(config)
    }

    /// The same network with another value of `Backend`.
    pub(crate) fn with_backend(
        &self,
        backend: &Map<String, Value>,
    ) -> Result<NetworkConfig, Error> {
        Ok(NetworkConfig {
            backend_type: backend_type(backend)?,
            backend: backend.clone(),
            ..self.clone()
        })
    }

    /// Sets the defaults of SubnetLen, SubnetMin and SubnetMax and checks them, with upstream's
    /// messages. The etcd and embedded managers need them; the Kubernetes one does not.
    pub(crate) fn check_subnets(&mut self) -> Result<(), Error> {
        if self.enable_ipv4 {
            let subnets = V4.check(Keyed {
                network: self
                    .network
                    .map(|net| (net.ip().to_bits().into(), net.prefix())),
                min: self.subnet_min.map(|ip| ip.to_bits().into()),
                max: self.subnet_max.map(|ip| ip.to_bits().into()),
                len: self.subnet_len,
            })?;
            self.subnet_len = subnets.len;
            self.subnet_min = Some(subnets::ipv4(subnets.min));
            self.subnet_max = Some(subnets::ipv4(subnets.max));
        }
        if self.enable_ipv6 {
            let subnets = V6.check(Keyed {
                network: self
                    .ipv6_network
                    .map(|net| (net.ip().to_bits(), net.prefix())),
                min: self.ipv6_subnet_min.map(Ipv6Addr::to_bits),
                max: self.ipv6_subnet_max.map(Ipv6Addr::to_bits),
                len: self.ipv6_subnet_len,
            })?;
            self.ipv6_subnet_len = subnets.len;
            self.ipv6_subnet_min = Some(subnets.min.into());
            self.ipv6_subnet_max = Some(subnets.max.into());
        }
        Ok(())
    }
}

fn backend_type(backend: &Map<String, Value>) -> Result<String, Error> {
    let keys: BackendKeys =
        go_compat::json::from_value(Value::Object(backend.clone())).map_err(Error::Backend)?;
    Ok(keys.kind.to_lowercase())
}

fn network_v4(text: &str) -> Result<Ipv4Network, Error> {
    match network("Network", text)? {
        IpNetwork::V4(net) => Ok(net),
        IpNetwork::V6(_) => Err(Error::NetworkFamily {
            key: "Network",
            family: "IPv4",
        }),
    }
}

/// Upstream takes an IPv4 network here and fails later.
fn network_v6(text: &str) -> Result<Ipv6Network, Error> {
    match network("IPv6Network", text)? {
        IpNetwork::V6(net) => Ok(net),
        IpNetwork::V4(_) => Err(Error::NetworkFamily {
            key: "IPv6Network",
            family: "IPv6",
        }),
    }
}

fn network(key: &'static str, text: &str) -> Result<IpNetwork, Error> {
    let net = go_compat::cidr::parse(text).map_err(|source| Error::Cidr { key, source })?;
    Ok(go_compat::cidr::masked(net))
}

/// The unspecified address means "not set", as upstream.
fn address_v4(key: &'static str, text: Option<String>) -> Result<Option<Ipv4Addr>, Error> {
    match address(key, text)? {
        Some(IpAddr::V6(_)) => Err(Error::AddressFamily {
            key,
            family: "IPv4",
        }),
        Some(IpAddr::V4(ip)) if !ip.is_unspecified() => Ok(Some(ip)),
        _ => Ok(None),
    }
}

fn address_v6(key: &'static str, text: Option<String>) -> Result<Option<Ipv6Addr>, Error> {
    match address(key, text)? {
        Some(IpAddr::V4(_)) => Err(Error::AddressFamily {
            key,
            family: "IPv6",
        }),
        Some(IpAddr::V6(ip)) if !ip.is_unspecified() => Ok(Some(ip)),
        _ => Ok(None),
    }
}

fn address(key: &'static str, text: Option<String>) -> Result<Option<IpAddr>, Error> {
    let parse =
        |text: String| go_compat::cidr::parse_ip(&text).map_err(|_| Error::Address { key, text });
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests;
