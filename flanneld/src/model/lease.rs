//! Leases: which node holds which subnets, and how it is reached.
//!
//! Attributes have the JSON of upstream's etcd values, a lease that of the `/v1/` API of flannel up
//! to v0.7, with `IPv6Subnet` added. Both are read by Go's rules ([`go_compat::json`]).

use crate::model::{Subnets, rfc3339};
use go_compat::cidr;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::SystemTime,
};

/// What a node publishes about itself. Order and omissions are those of upstream's `LeaseAttrs`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseAttrs {
    /// None where upstream writes `0.0.0.0`: a node without IPv4.
    #[serde(
        rename = "PublicIP",
        serialize_with = "or_unspecified",
        deserialize_with = "specified"
    )]
    pub(crate) public_ip: Option<Ipv4Addr>,
    #[serde(rename = "PublicIPv6", deserialize_with = "specified")]
    pub(crate) public_ipv6: Option<Ipv6Addr>,
    /// "vxlan"; empty for udp and alloc.
    #[serde(rename = "BackendType", skip_serializing_if = "String::is_empty")]
    pub(crate) backend_type: String,
    /// `{"VNI":1,"VtepMAC":"..."}`
    #[serde(
        rename = "BackendData",
        skip_serializing_if = "Option::is_none",
        serialize_with = "backend_data"
    )]
    pub(crate) backend_data: Option<serde_json::Value>,
    /// The same for IPv6.
    #[serde(
        rename = "BackendV6Data",
        skip_serializing_if = "Option::is_none",
        serialize_with = "backend_data"
    )]
    pub(crate) backend_v6_data: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "LeaseJson", try_from = "LeaseJson")]
pub(crate) struct Lease {
    /// The node's subnets, which are the lease's key.
    pub(crate) subnets: Subnets,
    pub(crate) attrs: LeaseAttrs,
    /// None: a reservation, which does not end.
    pub(crate) expiration: Option<SystemTime>,
}

/// A snapshot: every lease of the network, this node's too, in no order. Successive snapshots share
/// the leases that are the same.
pub(crate) type Leases = Arc<Vec<Arc<Lease>>>;

impl LeaseAttrs {
    /// True if both are the same node: the same public IPv4 address or, where one of them has none,
    /// the same IPv6 address.
    pub(crate) fn same_node(&self, other: &LeaseAttrs) -> bool {
        match (self.public_ip, other.public_ip) {
            (Some(ip), Some(other)) => ip == other,
            _ => self.public_ipv6.is_some() && self.public_ipv6 == other.public_ipv6,
        }
    }

    /// The address that names the node in messages.
    pub(crate) fn node(&self) -> String {
        match (self.public_ip, self.public_ipv6) {
            (Some(ip), _) => ip.to_string(),
            (None, Some(ip)) => ip.to_string(),
            (None, None) => "a node without public IP".to_owned(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LeaseJson {
    #[serde(
        rename = "Subnet",
        serialize_with = "or_default_route",
        deserialize_with = "subnet_v4"
    )]
    subnet: Option<Ipv4Network>,
    #[serde(
        rename = "IPv6Subnet",
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_text",
        deserialize_with = "subnet_v6"
    )]
    ipv6_subnet: Option<Ipv6Network>,
    #[serde(rename = "Attrs")]
    attrs: LeaseAttrs,
    #[serde(rename = "Expiration", with = "rfc3339")]
    expiration: Option<SystemTime>,
}

impl From<Lease> for LeaseJson {
    fn from(lease: Lease) -> LeaseJson {
        LeaseJson {
            subnet: lease.subnets.v4,
            ipv6_subnet: lease.subnets.v6,
            attrs: lease.attrs,
            expiration: lease.expiration,
        }
    }
}

impl TryFrom<LeaseJson> for Lease {
    type Error = &'static str;

    fn try_from(json: LeaseJson) -> Result<Lease, &'static str> {
        let subnets = Subnets {
            v4: json.subnet,
            v6: json.ipv6_subnet,
        };
        if subnets.is_empty() {
            return Err("Subnet: a lease must have an IPv4 or an IPv6 subnet");
        }
        Ok(Lease {
            subnets,
            attrs: json.attrs,
            expiration: json.expiration,
        })
    }
}

/// Backend data with its keys in upstream's order: the WireGuard key before the port; others are in
/// the alphabet's.
pub(crate) struct BackendData<'a>(pub(crate) &'a serde_json::Value);

impl Serialize for BackendData<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        const FIRST: &str = "PublicKey";
        let Some((object, first)) = self
            .0
            .as_object()
            .and_then(|object| Some((object, object.get(FIRST)?)))
        else {
            return self.0.serialize(out);
        };
        let others = object.iter().filter(|(name, _)| *name != FIRST);
        let others = others.map(|(name, value)| (name.as_str(), value));
        out.collect_map([(FIRST, first)].into_iter().chain(others))
    }
}

fn backend_data<S: Serializer>(
    data: &Option<serde_json::Value>,
    out: S,
) -> Result<S::Ok, S::Error> {
    data.as_ref().map(BackendData).serialize(out)
}

/// How Go writes a subnet that is not set.
const NO_SUBNET: &str = "0.0.0.0/0";

fn or_unspecified<S: Serializer>(ip: &Option<Ipv4Addr>, out: S) -> Result<S::Ok, S::Error> {
    ip.unwrap_or(Ipv4Addr::UNSPECIFIED).serialize(out)
}

fn or_default_route<S: Serializer>(
    subnet: &Option<Ipv4Network>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match subnet {
        Some(subnet) => out.collect_str(subnet),
        None => out.serialize_str(NO_SUBNET),
    }
}

/// As text, or `null`.
pub(crate) fn as_text<S: Serializer>(
    value: &Option<impl Display>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.collect_str(value),
        None => out.serialize_none(),
    }
}

/// An address; the unspecified one means none.
pub(crate) fn specified<'de, D, T>(json: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Into<IpAddr> + Copy,
{
    let ip = Option::<T>::deserialize(json)?;
    Ok(ip.filter(|ip| !(*ip).into().is_unspecified()))
}

/// A network without host bits. An empty text, and the default route, mean none.
pub(crate) fn subnet_v4<'de, D: Deserializer<'de>>(
    json: D,
) -> Result<Option<Ipv4Network>, D::Error> {
    match subnet(json)? {
        None => Ok(None),
        Some(IpNetwork::V4(net)) => Ok(Some(net)),
        Some(net) => Err(de::Error::custom(format!("{net} is not an IPv4 subnet"))),
    }
}

/// As [`subnet_v4`].
pub(crate) fn subnet_v6<'de, D: Deserializer<'de>>(
    json: D,
) -> Result<Option<Ipv6Network>, D::Error> {
    match subnet(json)? {
        None => Ok(None),
        Some(IpNetwork::V6(net)) => Ok(Some(net)),
        Some(net) => Err(de::Error::custom(format!("{net} is not an IPv6 subnet"))),
    }
}

fn subnet<'de, D: Deserializer<'de>>(json: D) -> Result<Option<IpNetwork>, D::Error> {
    let text = Option::<String>::deserialize(json)?.unwrap_or_default();
    if ["", NO_SUBNET, "::/0"].contains(&text.as_str()) {
        return Ok(None);
    }
    let net = cidr::parse(&text).map_err(de::Error::custom)?;
    if net.ip() != net.network() {
        return Err(de::Error::custom(format!("{text} has host bits set")));
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
    fn attributes_are_written_as_upstream_writes_them() {
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
    fn lease_has_the_shape_of_the_old_api() {
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
    fn error_names_the_malformed_field() {
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
    fn nodes_are_identified_by_their_public_addresses() {
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
        fn every_lease_round_trips(v4: Option<(u32, u8)>, v6: (u128, u8), ip: u32, ip6: Option<u128>, at: Option<u32>, kind in "[a-z]{0,8}") {
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
