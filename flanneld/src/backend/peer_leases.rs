//! The leases of a snapshot with what each peer's backend published, decoded once a lease.

use super::{Backend, PeerData, PeerError};
use crate::model::{
    Subnets,
    lease::{Lease, Leases},
};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// The decoded leases of the latest snapshot. A snapshot shares unchanged leases with the one
/// before: those keep what was decoded.
#[derive(Debug, Default)]
pub(crate) struct PeerLeases {
    snapshot: Leases,
    leases: Vec<PeerLease>,
}

/// A lease with its decoded backend data.
#[derive(Debug, Clone)]
pub(crate) struct PeerLease {
    pub(crate) lease: Arc<Lease>,
    pub(crate) v4: Result<PeerData, PeerError>,
    pub(crate) v6: Result<PeerData, PeerError>,
    /// The lease of the snapshot, where its node has gone over to another backend since: it keeps
    /// what belongs to `lease` as long as others need it.
    changed_to: Option<Arc<Lease>>,
}

impl PeerLeases {
    /// Takes over a snapshot.
    pub(crate) fn update(&mut self, backend: &dyn Backend, snapshot: &Leases) {
        if Arc::ptr_eq(&self.snapshot, snapshot) {
            return;
        }
        // `self.leases` keeps its leases alive: no address can be of another lease
        let mut known: HashMap<*const Lease, PeerLease> = self
            .leases
            .drain(..)
            .map(|known| (Arc::as_ptr(known.latest()), known))
            .collect();
        let mut leases: Vec<_> = snapshot
            .iter()
            .map(|lease| {
                let known = known.remove(&Arc::as_ptr(lease));
                known.unwrap_or_else(|| decode(backend, lease))
            })
            .collect();
        // what is left was of leases that have changed, or ended
        let before = known.into_values().filter(PeerLease::is_usable);
        let mut before: HashMap<Subnets, PeerLease> = before
            .map(|before| (before.lease.subnets, before))
            .collect();
        for after in leases.iter_mut().filter(|after| after.is_of_other_kind()) {
            let before = before.remove(&after.lease.subnets);
            if let Some(before) = before.filter(|before| before.has_addresses_of(&after.lease)) {
                let changed_to = Some(after.lease.clone());
                *after = PeerLease {
                    changed_to,
                    ..before
                };
            }
        }
        self.leases = leases;
        self.snapshot = snapshot.clone();
    }

    /// The number of leases of which a family is among these, by its subnet and public address: a
    /// node of two families is one node.
    pub(crate) fn count(
        &self,
        families: impl Iterator<Item = (IpNetwork, Option<IpAddr>)>,
    ) -> usize {
        let families: HashSet<_> = families.collect();
        if families.is_empty() {
            return 0;
        }
        let is_among = |peer: &&PeerLease| {
            let (subnets, attrs) = (&peer.lease.subnets, &peer.lease.attrs);
            let v4 = (
                subnets.v4.map(IpNetwork::from),
                attrs.public_ip.map(IpAddr::from),
            );
            let v6 = (
                subnets.v6.map(IpNetwork::from),
                attrs.public_ipv6.map(IpAddr::from),
            );
            [v4, v6]
                .into_iter()
                .any(|(subnet, ip)| subnet.is_some_and(|subnet| families.contains(&(subnet, ip))))
        };
        self.leases.iter().filter(is_among).count()
    }

    /// True if a node of the snapshot publishes what the backend can use.
    pub(crate) fn is_used(&self) -> bool {
        let mut present = self.leases.iter().filter(|peer| peer.changed_to.is_none());
        present.any(PeerLease::is_usable)
    }

    /// The subnets of nodes that have gone over to another backend since.
    pub(crate) fn kept(&self) -> BTreeSet<IpNetwork> {
        let kept = self.leases.iter().filter(|peer| peer.changed_to.is_some());
        let subnets = kept.flat_map(|peer| {
            let Subnets { v4, v6 } = peer.lease.subnets;
            [v4.map(IpNetwork::from), v6.map(IpNetwork::from)]
        });
        subnets.flatten().collect()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, PeerLease> {
        self.leases.iter()
    }
}

impl PeerLease {
    fn latest(&self) -> &Arc<Lease> {
        self.changed_to.as_ref().unwrap_or(&self.lease)
    }

    fn is_usable(&self) -> bool {
        self.v4.is_ok() || self.v6.is_ok()
    }

    fn is_of_other_kind(&self) -> bool {
        let is_other = |data: &Result<PeerData, PeerError>| {
            matches!(
                data,
                Err(PeerError::OtherBackend { .. } | PeerError::OtherSetting { key: "VNI", .. })
            )
        };
        is_other(&self.v4) || is_other(&self.v6)
    }

    fn has_addresses_of(&self, lease: &Lease) -> bool {
        let addresses = |lease: &Lease| (lease.attrs.public_ip, lease.attrs.public_ipv6);
        addresses(&self.lease) == addresses(lease)
    }
}

fn decode(backend: &dyn Backend, lease: &Arc<Lease>) -> PeerLease {
    let attrs = &lease.attrs;
    let decode = |data: Option<&Value>| {
        if attrs.backend_type == backend.kind() {
            backend.decode(data)
        } else {
            Err(PeerError::OtherBackend {
                peer: attrs.backend_type.clone(),
                own: backend.name(),
            })
        }
    };
    PeerLease {
        v4: decode(attrs.backend_data.as_ref()),
        v6: decode(attrs.backend_v6_data.as_ref()),
        lease: lease.clone(),
        changed_to: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::fixtures,
        model::{Subnets, lease::LeaseAttrs},
    };
    use serde_json::json;

    fn lease(vtep: &str) -> Arc<Lease> {
        Arc::new(Lease {
            subnets: Subnets::default(),
            attrs: LeaseAttrs {
                backend_type: "vxlan".to_owned(),
                backend_data: Some(json!({ "VtepMAC": vtep })),
                ..LeaseAttrs::default()
            },
            expiration: None,
        })
    }

    #[test]
    fn leases_that_snapshots_share_are_decoded_once() {
        let backend = fixtures::vxlan();
        let (kept, removed) = (lease("02:00:00:00:00:02"), lease("02:00:00:00:00:03"));
        let mut leases = PeerLeases::default();
        leases.update(&*backend, &Arc::new(vec![kept.clone(), removed]));
        // a marker that decoding does not produce shows that the entry is kept
        leases.leases[0].v4 = Err(PeerError::HostBits);
        let added = lease("02:00:00:00:00:04");
        leases.update(&*backend, &Arc::new(vec![added, kept]));
        let decoded: Vec<_> = leases.iter().map(|peer| peer.v4.clone()).collect();
        let vtep = "02:00:00:00:00:04".parse().unwrap();
        assert_eq!(
            decoded,
            [
                Ok(PeerData::Vxlan {
                    vtep,
                    behind_nat: false
                }),
                Err(PeerError::HostBits)
            ]
        );
    }

    #[test]
    fn node_of_two_families_counts_once() {
        let dual = |n: u8| {
            let mut lease = Lease::clone(&lease("02:00:00:00:00:02"));
            lease.subnets = format!("10.3.{n}.0-24&fd00:3:{n}::-64").parse().unwrap();
            lease.attrs.public_ip = Some([192, 0, 2, n].into());
            lease.attrs.public_ipv6 = Some(format!("fd31::{n}").parse().unwrap());
            Arc::new(lease)
        };
        let mut leases = PeerLeases::default();
        leases.update(
            &*fixtures::vxlan(),
            &Arc::new(vec![dual(1), dual(2), dual(3)]),
        );
        let v4 = |n: u8| {
            let subnet = format!("10.3.{n}.0/24").parse().unwrap();
            (subnet, Some(IpAddr::from([192, 0, 2, n])))
        };
        let v6 = |n: u8| {
            let subnet = format!("fd00:3:{n}::/64").parse().unwrap();
            (subnet, Some(format!("fd31::{n}").parse().unwrap()))
        };
        let count =
            |families: &[(IpNetwork, Option<IpAddr>)]| leases.count(families.iter().copied());
        assert_eq!(count(&[v4(1), v6(1), v4(2), v6(2)]), 2);
        assert_eq!(count(&[v6(3)]), 1);
        assert_eq!(count(&[(v4(1).0, v4(2).1)]), 0, "another node's");
        assert_eq!(count(&[]), 0);
    }
}
