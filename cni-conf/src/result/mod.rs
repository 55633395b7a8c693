//! The result of ADD (CNI spec section 5 "Success"): read from any version into the newest shape,
//! written in the exact shape of a version.

mod read;
mod write;

use crate::{Error, Version};
use go_compat::json::Document;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// What ADD reports on success.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddResult {
    /// Interfaces that the plugin created or used.
    pub interfaces: Vec<Interface>,
    /// Addresses of the interfaces.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name resolution in the container.
    pub dns: Dns,
}

/// An interface. Empty texts and None are not in the JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interface {
    /// At most 15 bytes.
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`
    pub mac: String,
    /// Bytes, since 1.1.0; 0 is not in the JSON.
    pub mtu: Option<u32>,
    /// Path of the namespace, "" on the host.
    pub sandbox: String,
    /// Since 1.1.0.
    pub socket_path: String,
    /// Since 1.1.0.
    pub pci_id: String,
}

/// An address.
#[derive(Debug, Clone, PartialEq)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`].
    pub interface: Option<usize>,
    /// With host bits: 10.244.1.2/24.
    pub address: IpNetwork,
    /// Gateway of the subnet.
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; None is the gateway of the family.
    pub gw: Option<IpAddr>,
    /// Bytes, since 1.1.0; 0 is unset.
    pub mtu: u32,
    /// Bytes, since 1.1.0; 0 is unset.
    pub advmss: u32,
    /// Metric, since 1.1.0; 0 is unset.
    pub priority: u32,
    /// Routing table, since 1.1.0.
    pub table: Option<u32>,
    /// As in rtnetlink, since 1.1.0.
    pub scope: Option<u8>,
}

impl Route {
    /// A route with only these two keys.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        }
    }
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses, most preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains for short names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// As in resolv.conf(5).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// True if no key is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

impl AddResult {
    /// Reads a result of any version: that of `cniVersion` inside, else `assumed`. JSON `null`
    /// gives an empty result. Code 6 for what does not parse; the message names the key.
    pub fn parse(bytes: &[u8], assumed: Version) -> Result<AddResult, Error> {
        AddResult::read(&Document::parse(bytes).map_err(read::malformed)?, assumed)
    }

    /// [`parse`](Self::parse) of a parsed text.
    pub fn read(document: &Document, assumed: Version) -> Result<AddResult, Error> {
        read::read(document, assumed)
    }

    /// [`parse`](Self::parse) of a parsed value.
    pub fn from_value(value: &serde_json::Value, assumed: Version) -> Result<AddResult, Error> {
        AddResult::read(&Document::from(value.clone()), assumed)
    }

    /// Exactly what upstream prints for that version: 4-space indentation, key order, no newline at
    /// the end. Code 999 `cannot convert: no valid IP addresses` for 0.1.0/0.2.0 without addresses.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        write::to_json(self, version)
    }

    /// The same as a value, for `prevResult`.
    pub fn to_value(&self, version: Version) -> Result<serde_json::Value, Error> {
        write::to_value(self, version)
    }
}

#[cfg(test)]
mod tests;
