//! The result of ADD, in the newest shape inside and in each version's exact shape outside (CNI
//! spec section 5 "Success").
mod read;
mod write;

use crate::{Error, Version};
use go_compat::json::Document;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// The success type of ADD.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddResult {
    /// created or used interfaces
    pub interfaces: Vec<Interface>,
    /// addresses
    pub ips: Vec<IpConfig>,
    /// routes
    pub routes: Vec<Route>,
    /// name resolution
    pub dns: Dns,
}
/// An interface. Empty text and None are left out of the JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interface {
    /// name
    pub name: String,
    /// MAC in text form
    pub mac: String,
    /// bytes (1.1); 0 is left out as well
    pub mtu: Option<u32>,
    /// path of the namespace, "" on the host
    pub sandbox: String,
    /// 1.1
    pub socket_path: String,
    /// 1.1
    pub pci_id: String,
}
/// An address.
#[derive(Debug, Clone, PartialEq)]
pub struct IpConfig {
    /// index into interfaces
    pub interface: Option<usize>,
    /// with host bits: 10.244.1.2/24
    pub address: IpNetwork,
    /// gateway of the subnet
    pub gateway: Option<IpAddr>,
}
/// A route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// destination
    pub dst: IpNetwork,
    /// next hop; None: the family's gateway
    pub gw: Option<IpAddr>,
    /// 1.1, 0 is unset
    pub mtu: u32,
    /// 1.1, 0 is unset
    pub advmss: u32,
    /// 1.1, 0 is unset
    pub priority: u32,
    /// 1.1
    pub table: Option<u32>,
    /// 1.1
    pub scope: Option<u8>,
}
impl Route {
    /// A plain route.
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
/// Name resolution. serde: lower-case keys, empty ones left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Dns {
    /// servers
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// local domain
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// search list
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// resolver options
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}
impl Dns {
    /// nothing set
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
