//! This node's lease: the subnets that a controller gave its object, checked.

use super::{Families, Keys, Node, NodeError};
use crate::model::{
    Subnets,
    lease::{LeaseAttrs, Leases},
    network_config::NetworkConfig,
};
use ipnetwork::IpNetwork;

/// Why this node has no lease yet. The text completes "waiting: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// No controller gave the node a subnet.
    #[error(
        "for a podCIDR of node {0}: its object has no spec.podCIDRs; the controller manager assigns them \
         (--allocate-node-cidrs, --cluster-cidr), or whoever makes the object"
    )]
    NoPodCidr(String),
    /// The subnets cannot be used.
    #[error("for usable podCIDRs of node {node}: {source}")]
    Node { node: String, source: NodeError },
    /// A subnet is outside the network; upstream's words in the middle.
    #[error(
        "for a podCIDR of node {node} within the network: subnet {network:?} specified in the flannel net config \
         doesn't contain {subnet:?} {family}PodCIDR of the {node:?} node"
    )]
    Outside {
        node: String,
        network: String,
        subnet: String,
        family: &'static str,
    },
    /// It is not known yet which subnets the other nodes have.
    #[error("for the list of nodes, to compare their podCIDRs with those of node {0}")]
    OthersUnknown(String),
    /// Another node's subnet is the same or overlaps.
    #[error(
        "for a podCIDR of node {node} of its own: {subnets} overlaps {other_subnets} of the node at {other}; correct \
         the assignment, then delete and make the object of one of the two nodes again"
    )]
    Overlap {
        node: String,
        subnets: String,
        other_subnets: String,
        other: String,
    },
}

impl Unusable {
    /// True if another node's lease may end it.
    pub(super) fn depends_on_others(&self) -> bool {
        matches!(self, Unusable::OthersUnknown(_) | Unusable::Overlap { .. })
    }
}

/// The families of the network.
pub(super) fn families(config: &NetworkConfig) -> Families {
    Families {
        ipv4: config.enable_ipv4,
        ipv6: config.enable_ipv6,
    }
}

/// The subnets of this node. They are inside the network.
pub(super) fn subnets(
    keys: &Keys,
    node: &Node,
    config: &NetworkConfig,
) -> Result<Subnets, Unusable> {
    let assigned = keys.subnets_of(node, families(config));
    let assigned = assigned.map_err(|source| Unusable::Node {
        node: node.name.clone(),
        source,
    })?;
    let subnets = assigned.ok_or_else(|| Unusable::NoPodCidr(node.name.clone()))?;
    let network_v4 = config.network.map(IpNetwork::V4);
    let network_v6 = config.ipv6_network.map(IpNetwork::V6);
    contains(node, network_v4, subnets.v4.map(IpNetwork::V4), "")?;
    contains(node, network_v6, subnets.v6.map(IpNetwork::V6), "IPv6 ")?;
    Ok(subnets)
}

fn contains(
    node: &Node,
    network: Option<IpNetwork>,
    subnet: Option<IpNetwork>,
    family: &'static str,
) -> Result<(), Unusable> {
    let Some(subnet) = subnet else {
        return Ok(());
    };
    let inside = network
        .is_some_and(|net| net.prefix() <= subnet.prefix() && net.contains(subnet.network()));
    if inside {
        return Ok(());
    }
    Err(Unusable::Outside {
        node: node.name.clone(),
        network: network.map(|net| net.to_string()).unwrap_or_default(),
        subnet: subnet.to_string(),
        family,
    })
}

/// Another node whose subnets overlap. `leases` may have this node's own lease too: it is the one
/// with this node's public IP.
pub(super) fn overlap(
    node: &Node,
    subnets: Subnets,
    attrs: &LeaseAttrs,
    leases: &Leases,
) -> Result<(), Unusable> {
    let mut others = leases
        .iter()
        .filter(|lease| lease.subnets.overlaps(&subnets) && !lease.attrs.same_node(attrs));
    let Some(other) = others.next() else {
        return Ok(());
    };
    Err(Unusable::Overlap {
        node: node.name.clone(),
        subnets: subnets.cidrs(),
        other_subnets: other.subnets.cidrs(),
        other: other.attrs.node(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lease::Lease;
    use std::sync::Arc;

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    fn node(pod_cidrs: &[&str]) -> Node {
        Node {
            name: "n1".into(),
            pod_cidrs: pod_cidrs.iter().map(|net| (*net).to_owned()).collect(),
            ..Node::default()
        }
    }

    const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;
    const V4: &str = r#"{"Network":"10.244.0.0/16"}"#;
    const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;

    fn own(net_conf: &str, pod_cidrs: &[&str]) -> Result<String, String> {
        let keys = Keys::new("flannel.alpha.coreos.com").unwrap();
        subnets(&keys, &node(pod_cidrs), &config(net_conf))
            .map(|subnets| subnets.cidrs())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn subnets_are_those_of_the_networks_families() {
        let both = ["10.244.1.0/24", "fd00:0:0:1::/64"];
        assert_eq!(
            own(DUAL, &both),
            Ok("10.244.1.0/24 and fd00:0:0:1::/64".into())
        );
        assert_eq!(own(V4, &both), Ok("10.244.1.0/24".into()));
        assert_eq!(own(V6, &both), Ok("fd00:0:0:1::/64".into()));
        assert_eq!(
            own(V4, &["10.244.0.0/16"]),
            Ok("10.244.0.0/16".into()),
            "one node has the whole network"
        );
    }

    #[test]
    fn what_the_node_waits_for_names_the_node_and_the_subnet() {
        for (net_conf, pod_cidrs, parts) in [
            (V4, &[][..], &["podCIDR of node n1"][..]),
            (V4, &["fd00::/64"], &["n1", "IPv4", "fd00::/64"]),
            (DUAL, &["10.244.1.0/24"], &["n1", "IPv6", "10.244.1.0/24"]),
            (V4, &["10.244.1.0"], &["n1", "10.244.1.0"]),
            (
                DUAL,
                &["10.244.1.0/24", "fd00::/64", "10.244.2.0/24"],
                &["n1", "10.244.1.0/24, fd00::/64, 10.244.2.0/24"],
            ),
            (
                V4,
                &["10.245.1.0/24"],
                &[
                    r#"subnet "10.244.0.0/16" specified in the flannel net config doesn't contain "10.245.1.0/24" PodCIDR of the "n1" node"#,
                ],
            ),
            (
                V6,
                &["fd01::/64"],
                &[
                    r#"subnet "fd00::/48" specified in the flannel net config doesn't contain "fd01::/64" IPv6 PodCIDR of the "n1" node"#,
                ],
            ),
            (V4, &["10.0.0.0/8"], &["10.0.0.0/8"]),
            (r#"{"Backend":{}}"#, &["10.0.0.0/8"], &["10.0.0.0/8"]),
        ] {
            let text = own(net_conf, pod_cidrs).unwrap_err();
            for part in parts {
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn overlapping_node_is_named() {
        let lease = |subnets: &str, ip: [u8; 4]| {
            Arc::new(Lease {
                subnets: subnets.parse().unwrap(),
                attrs: LeaseAttrs {
                    public_ip: Some(ip.into()),
                    ..LeaseAttrs::default()
                },
                expiration: None,
            })
        };
        let own = lease("10.244.1.0-24", [192, 168, 1, 1]);
        let check = |other| {
            let leases = Arc::new(vec![own.clone(), other]);
            overlap(&node(&[]), own.subnets, &own.attrs, &leases)
        };
        assert_eq!(check(lease("10.244.2.0-24", [192, 168, 1, 2])), Ok(()));
        for other in ["10.244.1.0-24", "10.244.0.0-23", "10.244.1.128-25"] {
            let text = check(lease(other, [192, 168, 1, 2]))
                .unwrap_err()
                .to_string();
            assert!(text.contains("192.168.1.2"), "{text}");
        }
    }
}
