//! Reads a result of any version into the newest shape.

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{Code, Error, Version};
use go_compat::{cidr, json::Document};
use serde::Deserialize;
use std::net::IpAddr;

/// The keys of all versions; the version decides which of them are read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResult {
    #[serde(rename = "cniVersion")]
    cni_version: String,
    ip4: Option<RawIp>,
    ip6: Option<RawIp>,
    interfaces: Vec<RawInterface>,
    ips: Vec<RawIpConfig>,
    routes: Vec<RawRoute>,
    dns: Dns,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIp {
    ip: String,
    gateway: String,
    routes: Vec<RawRoute>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawInterface {
    name: String,
    mac: String,
    mtu: u32,
    sandbox: String,
    #[serde(rename = "socketPath")]
    socket_path: String,
    #[serde(rename = "pciID")]
    pci_id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIpConfig {
    interface: Option<usize>,
    address: String,
    gateway: String,
}

/// A route in results and in `ipam.routes`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRoute {
    dst: String,
    gw: String,
    mtu: u32,
    advmss: u32,
    priority: u32,
    table: Option<u32>,
    scope: Option<u8>,
}

/// A key whose text is not the address or network that it must be.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
struct InvalidKey {
    /// From the outermost object in: `routes: dst`.
    key: String,
    source: cidr::ParseError,
}

impl InvalidKey {
    fn at(key: &str) -> impl FnOnce(cidr::ParseError) -> InvalidKey {
        move |source| InvalidKey {
            key: key.to_owned(),
            source,
        }
    }

    fn within(outer: &str) -> impl FnOnce(InvalidKey) -> InvalidKey {
        move |InvalidKey { key, source }| InvalidKey {
            key: format!("{outer}: {key}"),
            source,
        }
    }
}

pub(super) fn read(document: &Document, assumed: Version) -> Result<AddResult, Error> {
    let raw: RawResult = document.decode().map_err(malformed)?;
    let version = match raw.cni_version.as_str() {
        "" => assumed,
        text => Version::parse(text).ok_or_else(|| {
            Error::new(
                Code::Decode,
                format!("unsupported CNI result version {text:?}"),
            )
        })?,
    };
    let result = if version < Version::V0_3_0 {
        from_families(raw)
    } else {
        from_lists(raw)
    };
    result.map_err(malformed)
}

pub(super) fn malformed(error: impl std::error::Error) -> Error {
    Error::new(Code::Decode, format!("error unmarshalling result: {error}"))
}

/// 0.1.0, 0.2.0: at most one address of each family, with its routes.
fn from_families(raw: RawResult) -> Result<AddResult, InvalidKey> {
    let mut result = AddResult {
        dns: raw.dns,
        ..AddResult::default()
    };
    for (family, ip) in [("ip4", raw.ip4), ("ip6", raw.ip6)] {
        let Some(ip) = ip else { continue };
        result.ips.push(IpConfig {
            interface: None,
            address: cidr::parse(&ip.ip).map_err(InvalidKey::at(&format!("{family}.ip")))?,
            gateway: address(&ip.gateway).map_err(InvalidKey::at(&format!("{family}.gateway")))?,
        });
        for raw in ip.routes {
            let Route { dst, gw, .. } =
                route(raw).map_err(InvalidKey::within(&format!("{family}.routes")))?;
            result.routes.push(Route::new(dst, gw));
        }
    }
    Ok(result)
}

fn from_lists(raw: RawResult) -> Result<AddResult, InvalidKey> {
    let mut result = AddResult {
        interfaces: raw.interfaces.into_iter().map(interface).collect(),
        dns: raw.dns,
        ..AddResult::default()
    };
    for ip in raw.ips {
        result.ips.push(IpConfig {
            interface: ip.interface,
            address: cidr::parse(&ip.address).map_err(InvalidKey::at("ips.address"))?,
            gateway: address(&ip.gateway).map_err(InvalidKey::at("ips.gateway"))?,
        });
    }
    for raw in raw.routes {
        let route = route(raw).map_err(InvalidKey::within("routes"))?;
        result.routes.push(route);
    }
    Ok(result)
}

fn interface(raw: RawInterface) -> Interface {
    Interface {
        name: raw.name,
        mac: raw.mac,
        mtu: Some(raw.mtu).filter(|mtu| *mtu != 0),
        sandbox: raw.sandbox,
        socket_path: raw.socket_path,
        pci_id: raw.pci_id,
    }
}

fn route(raw: RawRoute) -> Result<Route, InvalidKey> {
    Ok(Route {
        dst: cidr::parse(&raw.dst).map_err(InvalidKey::at("dst"))?,
        gw: address(&raw.gw).map_err(InvalidKey::at("gw"))?,
        mtu: raw.mtu,
        advmss: raw.advmss,
        priority: raw.priority,
        table: raw.table,
        scope: raw.scope,
    })
}

/// None for "".
fn address(text: &str) -> Result<Option<IpAddr>, cidr::ParseError> {
    match text {
        "" => Ok(None),
        _ => cidr::parse_ip(text).map(Some),
    }
}

/// A route outside of a result, as in `ipam.routes`.
impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Route, D::Error> {
        route(RawRoute::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
