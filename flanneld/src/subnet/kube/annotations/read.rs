//! What the annotations of a node say. Other parties write them, so every value is checked; what
//! cannot be used in one address family does not take the other one along.

use super::{Families, Keys, NodeError};
use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
    },
    subnet::kube::Node,
};
use go_compat::cidr;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest value that is read, in bytes: the longest that flanneld writes has about 100.
const LONGEST_VALUE: usize = 4096;
/// How much of a bad value an error shows, in bytes.
const SHOWN: usize = 60;

/// A node's lease.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeLease {
    pub(crate) lease: Lease,
    /// Why one of the network's families is not in it.
    pub(crate) skipped: Option<NodeError>,
}

/// One family of a node.
struct Part<N, A> {
    subnet: N,
    public_ip: A,
    data: Option<Value>,
}

impl Keys {
    /// The node's lease. None if no flanneld runs on the node; an error if none of the families can
    /// be used.
    pub(crate) fn lease_of(
        &self,
        node: &Node,
        families: Families,
    ) -> Result<Option<NodeLease>, NodeError> {
        if !self.is_managed(node) {
            return Ok(None);
        }
        let pod_cidrs = pod_cidrs(node)?;
        let backend_type = bounded(&self.backend_type, node)?.to_owned();
        let (v4, error_v4) = split(families.ipv4.then(|| self.ipv4(node, &pod_cidrs)));
        let (v6, error_v6) = split(families.ipv6.then(|| self.ipv6(node, &pod_cidrs)));
        let skipped = error_v4.or(error_v6);
        if let (None, None, Some(error)) = (&v4, &v6, &skipped) {
            return Err(error.clone());
        }
        let mut subnets = Subnets::default();
        let mut attrs = LeaseAttrs {
            backend_type,
            ..LeaseAttrs::default()
        };
        if let Some(part) = v4 {
            subnets.v4 = Some(part.subnet);
            attrs.public_ip = Some(part.public_ip);
            attrs.backend_data = part.data;
        }
        if let Some(part) = v6 {
            subnets.v6 = Some(part.subnet);
            attrs.public_ipv6 = Some(part.public_ip);
            attrs.backend_v6_data = part.data;
        }
        let lease = Lease {
            subnets,
            attrs,
            expiration: None,
        };
        Ok((!lease.subnets.is_empty()).then_some(NodeLease { lease, skipped }))
    }

    fn ipv4(
        &self,
        node: &Node,
        pod_cidrs: &[IpNetwork],
    ) -> Result<Part<Ipv4Network, Ipv4Addr>, NodeError> {
        let public_ip = required(&self.public_ip, node)?;
        Ok(Part {
            subnet: subnet_v4(pod_cidrs)?,
            public_ip: ipv4(&self.public_ip, public_ip)?,
            data: backend_data(&self.backend_data, node)?,
        })
    }

    fn ipv6(
        &self,
        node: &Node,
        pod_cidrs: &[IpNetwork],
    ) -> Result<Part<Ipv6Network, Ipv6Addr>, NodeError> {
        let public_ip = required(&self.public_ipv6, node)?;
        Ok(Part {
            subnet: subnet_v6(pod_cidrs)?,
            public_ip: ipv6(&self.public_ipv6, public_ip)?,
            data: backend_data(&self.backend_v6_data, node)?,
        })
    }

    /// The subnets that `spec.podCIDRs` gives a node of these families. None without any podCIDR.
    pub(in crate::subnet::kube) fn subnets_of(
        &self,
        node: &Node,
        families: Families,
    ) -> Result<Option<Subnets>, NodeError> {
        let pod_cidrs = pod_cidrs(node)?;
        if pod_cidrs.is_empty() {
            return Ok(None);
        }
        Ok(Some(Subnets {
            v4: families.ipv4.then(|| subnet_v4(&pod_cidrs)).transpose()?,
            v6: families.ipv6.then(|| subnet_v6(&pod_cidrs)).transpose()?,
        }))
    }
}

fn split<T>(result: Option<Result<T, NodeError>>) -> (Option<T>, Option<NodeError>) {
    match result {
        None => (None, None),
        Some(Ok(value)) => (Some(value), None),
        Some(Err(error)) => (None, Some(error)),
    }
}

/// Host bits are cleared, as upstream does.
fn pod_cidrs(node: &Node) -> Result<Vec<IpNetwork>, NodeError> {
    if node.pod_cidrs.len() > 2 {
        return Err(NodeError::TooManyPodCidrs(found(&node.pod_cidrs)));
    }
    let texts = node.pod_cidrs.iter();
    texts
        .map(|text| {
            let net = cidr::masked(cidr::parse(shown(text))?);
            if net.prefix() == 0 {
                return Err(NodeError::PodCidrWithoutLength(net));
            }
            Ok(net)
        })
        .collect()
}

fn subnet_v4(pod_cidrs: &[IpNetwork]) -> Result<Ipv4Network, NodeError> {
    let mut subnets = pod_cidrs.iter().filter_map(|net| match net {
        IpNetwork::V4(net) => Some(*net),
        IpNetwork::V6(_) => None,
    });
    subnets.next().ok_or_else(|| NodeError::NoPodCidr {
        family: "IPv4",
        found: found(pod_cidrs),
    })
}

fn subnet_v6(pod_cidrs: &[IpNetwork]) -> Result<Ipv6Network, NodeError> {
    let mut subnets = pod_cidrs.iter().filter_map(|net| match net {
        IpNetwork::V6(net) => Some(*net),
        IpNetwork::V4(_) => None,
    });
    subnets.next().ok_or_else(|| NodeError::NoPodCidr {
        family: "IPv6",
        found: found(pod_cidrs),
    })
}

fn found(pod_cidrs: &[impl ToString]) -> String {
    if pod_cidrs.is_empty() {
        return "it is empty".to_owned();
    }
    let texts: Vec<String> = pod_cidrs
        .iter()
        .take(8)
        .map(|net| shown(&net.to_string()).to_owned())
        .collect();
    texts.join(", ")
}

fn required<'a>(key: &str, node: &'a Node) -> Result<&'a str, NodeError> {
    match bounded(key, node)? {
        "" => Err(NodeError::Missing(key.to_owned())),
        value => Ok(value),
    }
}

/// The value of an annotation; empty if there is none.
fn bounded<'a>(key: &str, node: &'a Node) -> Result<&'a str, NodeError> {
    let value = node.annotation(key);
    if value.len() > LONGEST_VALUE {
        return Err(NodeError::TooLong {
            key: key.to_owned(),
            length: value.len(),
            longest: LONGEST_VALUE,
        });
    }
    Ok(value)
}

fn backend_data(key: &str, node: &Node) -> Result<Option<Value>, NodeError> {
    match bounded(key, node)? {
        "" => Ok(None),
        value => data(key, value).map(Some),
    }
}

/// Backend data.
pub(super) fn data(key: &str, value: &str) -> Result<Value, NodeError> {
    serde_json::from_str(value).map_err(|error| NodeError::Json {
        key: key.to_owned(),
        error: error.to_string(),
    })
}

/// An IPv4 address that a node can have.
pub(super) fn ipv4(key: &str, value: &str) -> Result<Ipv4Addr, NodeError> {
    match cidr::parse_ip(value) {
        Ok(IpAddr::V4(ip)) if !ip.is_unspecified() => Ok(ip),
        _ => Err(NodeError::Address {
            key: key.to_owned(),
            value: shown(value).to_owned(),
            family: "IPv4",
        }),
    }
}

/// An IPv6 address that a node can have.
pub(super) fn ipv6(key: &str, value: &str) -> Result<Ipv6Addr, NodeError> {
    match cidr::parse_ip(value) {
        Ok(IpAddr::V6(ip)) if !ip.is_unspecified() => Ok(ip),
        _ => Err(NodeError::Address {
            key: key.to_owned(),
            value: shown(value).to_owned(),
            family: "IPv6",
        }),
    }
}

/// The beginning of a text, for an error.
fn shown(text: &str) -> &str {
    let end = (0..=SHOWN.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
