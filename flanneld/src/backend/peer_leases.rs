//! The leases of a snapshot with what each peer's backend published, decoded once a lease.

use super::{Backend, PeerData, PeerError};
use crate::model::lease::{Lease, Leases};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

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
            .map(|known| (Arc::as_ptr(&known.lease), known))
            .collect();
        self.leases = snapshot
            .iter()
            .map(|lease| {
                let known = known.remove(&Arc::as_ptr(lease));
                known.unwrap_or_else(|| decode(backend, lease))
            })
            .collect();
        self.snapshot = snapshot.clone();
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, PeerLease> {
        self.leases.iter()
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
                own: backend.kind(),
            })
        }
    };
    PeerLease {
        v4: decode(attrs.backend_data.as_ref()),
        v6: decode(attrs.backend_v6_data.as_ref()),
        lease: lease.clone(),
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
            [Ok(PeerData::Vxlan(vtep)), Err(PeerError::HostBits)]
        );
    }
}
