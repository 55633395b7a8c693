//! Leases: which node holds which subnet, and how it is reached.
//!
//! Attributes have the JSON of upstream's etcd values, a lease that of the `/v1/` API of flannel up to v0.7, with
//! `IPv6Subnet` added. Both are read by Go's rules ([`go_compat::json`]).
use crate::model::{Subnets, rfc3339};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::SystemTime,
};

/// What a node tells about itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "AttrsJson", try_from = "AttrsJson")]
pub struct LeaseAttrs {
    /// `0.0.0.0`, which upstream writes for a node without IPv4, is None here.
    pub public_ip: Option<Ipv4Addr>,
    /// Reachable address, IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// "vxlan"; empty for udp and alloc.
    pub backend_type: String,
    /// `{"VNI":1,"VtepMAC":"..."}`
    pub backend_data: Option<serde_json::Value>,
    /// The same for IPv6.
    pub backend_v6_data: Option<serde_json::Value>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "LeaseJson", try_from = "LeaseJson")]
pub struct Lease {
    /// The node's subnets; they are the lease's key.
    pub subnets: Subnets,
    /// What the node tells about itself.
    pub attrs: LeaseAttrs,
    /// None: a reservation that does not end.
    pub expiration: Option<SystemTime>,
}

/// The whole current picture: every lease of the network, our own too, in no order. A new picture shares what did not change.
pub type Leases = Arc<Vec<Arc<Lease>>>;

impl LeaseAttrs {
    /// True if both are the same node: the same public IPv4 address or, where one of them has none, the same IPv6 address.
    pub fn same_node(&self, other: &LeaseAttrs) -> bool {
        match (self.public_ip, other.public_ip) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.public_ipv6.is_some() && self.public_ipv6 == other.public_ipv6,
        }
    }

    /// The address that names the node in messages.
    pub fn node(&self) -> String {
        match (self.public_ip, self.public_ipv6) {
            (Some(ip), _) => ip.to_string(),
            (None, Some(ip)) => ip.to_string(),
            (None, None) => "a node without public IP".to_owned(),
        }
    }
}

/// Field order and omissions as upstream's `LeaseAttrs`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct AttrsJson {
    #[serde(rename = "PublicIP")]
    public_ip: Option<String>,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<String>,
    #[serde(rename = "BackendType", skip_serializing_if = "String::is_empty")]
    backend_type: String,
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    backend_data: Option<serde_json::Value>,
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    backend_v6_data: Option<serde_json::Value>,
}

impl From<LeaseAttrs> for AttrsJson {
    fn from(attrs: LeaseAttrs) -> AttrsJson {
        let ip = attrs.public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        AttrsJson {
            public_ip: Some(ip.to_string()),
            public_ipv6: attrs.public_ipv6.map(|ip| ip.to_string()),
            backend_type: attrs.backend_type,
            backend_data: attrs.backend_data,
            backend_v6_data: attrs.backend_v6_data,
        }
    }
}

impl TryFrom<AttrsJson> for LeaseAttrs {
    type Error = String;
    fn try_from(json: AttrsJson) -> Result<LeaseAttrs, String> {
        let v4: Option<Ipv4Addr> = address("PublicIP", json.public_ip)?;
        let v6: Option<Ipv6Addr> = address("PublicIPv6", json.public_ipv6)?;
        Ok(LeaseAttrs {
            public_ip: v4.filter(|ip| !ip.is_unspecified()),
            public_ipv6: v6.filter(|ip| !ip.is_unspecified()),
            backend_type: json.backend_type,
            backend_data: json.backend_data,
            backend_v6_data: json.backend_v6_data,
        })
    }
}

fn address<T: std::str::FromStr>(field: &str, text: Option<String>) -> Result<Option<T>, String> {
    text.map(|text| {
        text.parse()
            .map_err(|_| format!("{field}: invalid IP address {text:?}"))
    })
    .transpose()
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LeaseJson {
    #[serde(rename = "Subnet")]
    subnet: Option<String>,
    #[serde(rename = "IPv6Subnet", skip_serializing_if = "Option::is_none")]
    ipv6_subnet: Option<String>,
    #[serde(rename = "Attrs")]
    attrs: AttrsJson,
    #[serde(rename = "Expiration")]
    expiration: Option<String>,
}

/// How Go writes a subnet that is not there.
const NO_SUBNET: &str = "0.0.0.0/0";

impl From<Lease> for LeaseJson {
    fn from(lease: Lease) -> LeaseJson {
        LeaseJson {
            subnet: Some(
                lease
                    .subnets
                    .v4
                    .map_or(NO_SUBNET.to_owned(), |net| net.to_string()),
            ),
            ipv6_subnet: lease.subnets.v6.map(|net| net.to_string()),
            attrs: lease.attrs.into(),
            expiration: Some(rfc3339::format(lease.expiration)),
        }
    }
}

impl TryFrom<LeaseJson> for Lease {
    type Error = String;
    fn try_from(json: LeaseJson) -> Result<Lease, String> {
        let lease = Lease {
            subnets: Subnets {
                v4: subnet_v4("Subnet", json.subnet)?,
                v6: subnet_v6("IPv6Subnet", json.ipv6_subnet)?,
            },
            attrs: json.attrs.try_into()?,
            expiration: match json.expiration {
                Some(text) => {
                    rfc3339::parse(&text).map_err(|error| format!("Expiration: {error}"))?
                }
                None => None,
            },
        };
        if lease.subnets.is_empty() {
            return Err("Subnet: a lease must have an IPv4 or an IPv6 subnet".to_owned());
        }
        Ok(lease)
    }
}

/// A subnet of the API: a network (no host bits); absent, empty and `0.0.0.0/0` mean none.
pub(crate) fn subnet_v4(field: &str, text: Option<String>) -> Result<Option<Ipv4Network>, String> {
    match network(field, text)? {
        None => Ok(None),
        Some(IpNetwork::V4(net)) => Ok(Some(net)),
        Some(IpNetwork::V6(net)) => Err(format!("{field}: {net} is not an IPv4 subnet")),
    }
}

/// The same for IPv6.
pub(crate) fn subnet_v6(field: &str, text: Option<String>) -> Result<Option<Ipv6Network>, String> {
    match network(field, text)? {
        None => Ok(None),
        Some(IpNetwork::V6(net)) => Ok(Some(net)),
        Some(IpNetwork::V4(net)) => Err(format!("{field}: {net} is not an IPv6 subnet")),
    }
}

fn network(field: &str, text: Option<String>) -> Result<Option<IpNetwork>, String> {
    let Some(text) = text.filter(|text| !text.is_empty() && text != NO_SUBNET && text != "::/0")
    else {
        return Ok(None);
    };
    let net = go_compat::cidr::parse(&text).map_err(|error| format!("{field}: {error}"))?;
    if net.ip() != net.network() {
        return Err(format!("{field}: {text} has host bits set"));
    }
    Ok(Some(net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn attrs(text: &str) -> Result<LeaseAttrs, String> {
        go_compat::json::from_slice(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn attributes_have_upstreams_bytes() {
        let mut attrs = LeaseAttrs {
            public_ip: Some([1, 2, 3, 4].into()),
            ..LeaseAttrs::default()
        };
        assert_eq!(text(&attrs), r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#);
        attrs.backend_type = "vxlan".into();
        attrs.backend_data = Some(json!({"VNI": 1, "VtepMAC": "c6:d2:32:6f:8f:44"}));
        assert_eq!(
            text(&attrs),
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
        );
        attrs.public_ip = None;
        attrs.public_ipv6 = Some("fd00::1".parse().unwrap());
        attrs.backend_v6_data = Some(json!(null));
        assert_eq!(
            text(&attrs),
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":null}"#
        );
    }

    #[test]
    fn attributes_are_read_as_go_reads_them() {
        let read = attrs(r#"{"publicip":"1.2.3.4","PUBLICIPV6":"fd00::1","other":1}"#).unwrap();
        assert_eq!(read.public_ip, Some([1, 2, 3, 4].into()));
        assert_eq!(read.public_ipv6, Some("fd00::1".parse().unwrap()));
        assert_eq!(
            attrs(r#"{"PublicIP":"0.0.0.0"}"#).unwrap(),
            LeaseAttrs::default()
        );
        for bad in [
            "",
            "[]",
            "7",
            r#"{"PublicIP":7}"#,
            r#"{"PublicIP":"1.2.3"}"#,
            r#"{"PublicIP":"01.2.3.4"}"#,
            r#"{"PublicIP":"fd00::1"}"#,
            r#"{"PublicIPv6":"1.2.3.4"}"#,
            r#"{"BackendType":{}}"#,
        ] {
            assert!(attrs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lease_has_the_old_apis_shape() {
        let lease = Lease {
            subnets: "10.1.2.0-24".parse().unwrap(),
            attrs: LeaseAttrs {
                public_ip: Some([1, 2, 3, 4].into()),
                ..LeaseAttrs::default()
            },
            expiration: None,
        };
        assert_eq!(
            text(&lease),
            r#"{"Subnet":"10.1.2.0/24","Attrs":{"PublicIP":"1.2.3.4","PublicIPv6":null},"Expiration":"0001-01-01T00:00:00Z"}"#
        );
    }

    #[test]
    fn a_lease_with_garbage_is_refused_by_name() {
        for (bad, field) in [
            (r#"{"Subnet":"10.1.2.3/24"}"#, "host bits"),
            (r#"{"Subnet":"10.1.2.0"}"#, "Subnet"),
            (r#"{"Subnet":"fd00::/64"}"#, "not an IPv4"),
            (r#"{"IPv6Subnet":"10.1.0.0/16"}"#, "not an IPv6"),
            (
                r#"{"Subnet":"10.1.2.0/24","Expiration":"soon"}"#,
                "Expiration",
            ),
            (
                r#"{"Subnet":"10.1.2.0/24","Attrs":{"PublicIP":"x"}}"#,
                "PublicIP",
            ),
            (r#"{"Attrs":{"PublicIP":"1.2.3.4"}}"#, "Subnet"),
        ] {
            let error = go_compat::json::from_slice::<Lease>(bad.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(field), "{bad}: {error}");
        }
    }

    #[test]
    fn a_node_is_known_by_its_public_address() {
        let node = |v4: Option<[u8; 4]>, v6: Option<&str>| LeaseAttrs {
            public_ip: v4.map(Into::into),
            public_ipv6: v6.map(|ip| ip.parse().unwrap()),
            ..LeaseAttrs::default()
        };
        let (a, b) = (Some([1, 2, 3, 4]), Some([1, 2, 3, 5]));
        assert!(node(a, None).same_node(&node(a, Some("fd00::1"))));
        assert!(!node(a, Some("fd00::1")).same_node(&node(b, Some("fd00::1"))));
        assert!(node(None, Some("fd00::1")).same_node(&node(a, Some("fd00::1"))));
        assert!(!node(None, None).same_node(&node(None, None)));
    }

    proptest! {
        #[test]
        fn leases_survive_json(v4: Option<(u32, u8)>, v6: (u128, u8), ip: u32, ip6: Option<u128>, at: Option<u32>, kind in "[a-z]{0,8}") {
            let lease = Lease {
                subnets: Subnets {
                    v4: v4.map(|(ip, len)| masked4(ip, 1 + len % 32)),
                    v6: Some(masked6(v6.0 | 1 << 127, 1 + v6.1 % 128)),
                },
                attrs: LeaseAttrs {
                    public_ip: Some(Ipv4Addr::from(ip.max(1))),
                    public_ipv6: ip6.map(|ip| Ipv6Addr::from(ip.max(1))),
                    backend_type: kind,
                    backend_data: Some(json!({"VNI": ip})),
                    backend_v6_data: None,
                },
                expiration: at.map(|s| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(s) + 1)),
            };
            let read: Lease = go_compat::json::from_slice(text(&lease).as_bytes()).unwrap();
            prop_assert_eq!(read, lease);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            drop(go_compat::json::from_slice::<Lease>(text.as_bytes()));
        }
    }

    fn masked4(ip: u32, len: u8) -> Ipv4Network {
        let net = Ipv4Network::new(ip.into(), len).unwrap();
        Ipv4Network::new(net.network(), len).unwrap()
    }
    fn masked6(ip: u128, len: u8) -> Ipv6Network {
        let net = Ipv6Network::new(ip.into(), len).unwrap();
        Ipv6Network::new(net.network(), len).unwrap()
    }
}
