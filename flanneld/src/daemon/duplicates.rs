//! Other nodes that publish what only this node may: its public address, or the key by which the
//! backend finds it (the MAC of its vxlan device). Cloned disks and configurations do so.

use crate::model::lease::{Lease, LeaseAttrs};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Keys of the backends' data that name one node.
const NODE_KEYS: [&str; 2] = ["VtepMAC", "PublicKey"];

/// What another node publishes, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) kind: Kind,
    /// The address or key.
    value: String,
    /// The other node.
    node: String,
    subnets: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PublicIp,
    BackendKey,
}

/// The first lease of another node that has something of ours.
pub(super) fn find(own: &Lease, leases: &[Arc<Lease>]) -> Option<Duplicate> {
    let own_keys = keys(&own.attrs);
    let mut others = leases.iter().filter(|lease| lease.subnets != own.subnets);
    others.find_map(|other| {
        let duplicate = |kind, value: String| Duplicate {
            kind,
            value,
            node: other.attrs.node(),
            subnets: other.subnets.cidrs(),
        };
        let (ours, theirs) = (&own.attrs, &other.attrs);
        let v4 = ours
            .public_ip
            .filter(|_| ours.public_ip == theirs.public_ip);
        let v6 = ours
            .public_ipv6
            .filter(|_| ours.public_ipv6 == theirs.public_ipv6);
        let address = v4.map(|ip| ip.to_string()).or(v6.map(|ip| ip.to_string()));
        if let Some(address) = address {
            return Some(duplicate(Kind::PublicIp, address));
        }
        let key = keys(theirs)
            .into_iter()
            .find(|key| own_keys.contains(key))?;
        Some(duplicate(Kind::BackendKey, key))
    })
}

/// The texts that name a node to the backends of the others.
fn keys(attrs: &LeaseAttrs) -> Vec<String> {
    let data = [&attrs.backend_data, &attrs.backend_v6_data];
    let objects = data.into_iter().flatten().filter_map(Value::as_object);
    let named = objects.flatten().filter(|(name, _)| {
        let mut known = NODE_KEYS.iter();
        known.any(|known| name.eq_ignore_ascii_case(known))
    });
    let texts = named.filter_map(|(_, value)| value.as_str());
    texts
        .filter(|text| !text.is_empty())
        .map(canonical)
        .collect()
}

/// A MAC may be written in either case; a public key may not.
fn canonical(text: &str) -> String {
    match text.contains(':') {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    }
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Duplicate {
            value,
            node,
            subnets,
            ..
        } = self;
        match self.kind {
            Kind::PublicIp => write!(
                f,
                "the node with {subnets} publishes this node's public IP {value}, too: set another -public-ip on one of \
                 them, or delete the lease of a node that is gone"
            ),
            Kind::BackendKey => write!(
                f,
                "node {node} with {subnets} publishes {value}, which is this node's, too: one was cloned from the other, \
                 and the one that is started next takes a new one"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(n: u8, ip: u8, mac: &str) -> Arc<Lease> {
        Arc::new(Lease {
            subnets: format!("10.3.{n}.0-24").parse().unwrap(),
            attrs: LeaseAttrs {
                public_ip: Some([192, 0, 2, ip].into()),
                backend_data: Some(json!({"VNI": 1, "VtepMAC": mac})),
                ..LeaseAttrs::default()
            },
            expiration: None,
        })
    }

    #[test]
    fn address_or_key_of_another_node_is_a_duplicate() {
        let own = lease(1, 1, "02:00:00:00:00:aa");
        let kind = |other| find(&own, &[own.clone(), other]).map(|found| found.kind);
        assert_eq!(kind(lease(2, 2, "02:00:00:00:00:bb")), None);
        assert_eq!(kind(lease(2, 1, "02:00:00:00:00:bb")), Some(Kind::PublicIp));
        assert_eq!(
            kind(lease(2, 2, "02:00:00:00:00:AA")),
            Some(Kind::BackendKey)
        );
        let found = find(&own, &[lease(2, 2, "02:00:00:00:00:aa")]).unwrap();
        assert!(found.to_string().contains("192.0.2.2 with 10.3.2.0/24"));
    }

    #[test]
    fn backends_without_such_data_have_no_keys() {
        let bare = |n| {
            let mut lease = Lease::clone(&lease(n, n, ""));
            lease.attrs.backend_data = (n == 1).then_some(Value::Null);
            Arc::new(lease)
        };
        assert_eq!(find(&bare(1), &[bare(1), bare(2), lease(3, 3, "")]), None);
    }
}
