//! Writes a result in the shape of a version. Up to 0.4.0, keys have the order of the structs below
//! and an empty `dns` is written; from 1.0.0 on, keys are sorted and it is not.

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{Error, Version};
use go_compat::json;
use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;
use std::net::IpAddr;

/// 0.1.0, 0.2.0
#[derive(Serialize)]
struct Families<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Family {
    #[serde(serialize_with = "as_text")]
    ip: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<PlainRoute>,
}

#[derive(Serialize)]
struct PlainRoute {
    #[serde(serialize_with = "as_text")]
    dst: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

/// 0.3.0 to 1.1.0
#[derive(Serialize)]
struct Lists<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<ListedInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListedIp>,
    #[serde(skip_serializing_if = "no_routes")]
    routes: &'a [Route],
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'a Dns>,
}

#[derive(Serialize)]
struct ListedInterface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
    #[serde(rename = "socketPath", skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
    #[serde(rename = "pciID", skip_serializing_if = "str::is_empty")]
    pci_id: &'a str,
}

#[derive(Serialize)]
struct ListedIp {
    /// "4" or "6", only before 1.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    #[serde(serialize_with = "as_text")]
    address: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

fn no_routes(routes: &[Route]) -> bool {
    routes.is_empty()
}

fn as_text<S: Serializer>(net: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(net)
}

pub(super) fn to_json(result: &AddResult, version: Version) -> Result<String, Error> {
    if version < Version::V0_3_0 {
        return Ok(json::marshal_indent(&families(result, version)?));
    }
    if version < Version::V1_0_0 {
        return Ok(json::marshal_indent(&lists(result, version)));
    }
    // a map sorts the keys
    Ok(json::marshal_indent(&to_value(result, version)?))
}

pub(super) fn to_value(result: &AddResult, version: Version) -> Result<Value, Error> {
    let value = if version < Version::V0_3_0 {
        serde_json::to_value(families(result, version)?)
    } else {
        serde_json::to_value(lists(result, version))
    };
    value.map_err(Error::internal)
}

fn families(result: &AddResult, version: Version) -> Result<Families<'_>, Error> {
    if result.ips.is_empty() {
        return Err(Error::internal("cannot convert: no valid IP addresses"));
    }
    Ok(Families {
        cni_version: version.as_str(),
        ip4: family(result, IpNetwork::is_ipv4),
        ip6: family(result, IpNetwork::is_ipv6),
        dns: &result.dns,
    })
}

/// First address of a family, with the routes of the family.
fn family(result: &AddResult, is_of: fn(&IpNetwork) -> bool) -> Option<Family> {
    let ip = result.ips.iter().find(|ip| is_of(&ip.address))?;
    let routes = result.routes.iter().filter(|route| is_of(&route.dst));
    Some(Family {
        ip: ip.address,
        gateway: ip.gateway,
        routes: routes
            .map(|route| PlainRoute {
                dst: route.dst,
                gw: route.gw,
            })
            .collect(),
    })
}

/// As upstream, 1.0.0 has the keys of interfaces that 1.1.0 added.
fn lists(result: &AddResult, version: Version) -> Lists<'_> {
    let early = version < Version::V1_0_0;
    Lists {
        cni_version: version.as_str(),
        interfaces: result
            .interfaces
            .iter()
            .map(|interface| listed_interface(interface, early))
            .collect(),
        ips: result.ips.iter().map(|ip| listed_ip(ip, early)).collect(),
        routes: &result.routes,
        dns: (early || !result.dns.is_empty()).then_some(&result.dns),
    }
}

fn listed_interface(interface: &Interface, early: bool) -> ListedInterface<'_> {
    let late = |text| if early { "" } else { text };
    ListedInterface {
        name: &interface.name,
        mac: &interface.mac,
        mtu: interface.mtu.filter(|mtu| *mtu != 0 && !early),
        sandbox: &interface.sandbox,
        socket_path: late(&interface.socket_path),
        pci_id: late(&interface.pci_id),
    }
}

fn listed_ip(ip: &IpConfig, early: bool) -> ListedIp {
    let family = if ip.address.is_ipv4() { "4" } else { "6" };
    ListedIp {
        version: early.then_some(family),
        interface: ip.interface,
        address: ip.address,
        gateway: ip.gateway,
    }
}

/// A route outside of a result, as in `ipam.routes`: upstream's order, only keys that are set.
impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Route", 7)?;
        fields.serialize_field("dst", &self.dst.to_string())?;
        if let Some(gw) = &self.gw {
            fields.serialize_field("gw", gw)?;
        }
        for (name, value) in [
            ("mtu", self.mtu),
            ("advmss", self.advmss),
            ("priority", self.priority),
        ] {
            if value != 0 {
                fields.serialize_field(name, &value)?;
            }
        }
        if let Some(table) = &self.table {
            fields.serialize_field("table", table)?;
        }
        if let Some(scope) = &self.scope {
            fields.serialize_field("scope", scope)?;
        }
        fields.end()
    }
}
