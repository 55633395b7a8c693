//! The nodes as the watch knows them, and the leases that they are. Pure.
//!
//! Kubelets write their node's status every few seconds, and almost no write concerns a lease: a
//! fingerprint of what a lease is made of tells them apart, and is all that is kept of a node
//! besides its lease.

mod overlaps;

use crate::{
    model::lease::{Lease, Leases},
    subnet::kube::{
        Families, Keys, Node, OwnNode,
        protobuf::{DecodeError, NodeObject},
    },
};
use overlaps::{Claim, Overlap};
use std::{collections::BTreeMap, hash::RandomState, sync::Arc};

/// Nodes that an API server can make this program hold: more than any cluster has.
const MAX_NODES: usize = 200_000;

/// Why a node cannot be taken in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum CacheError {
    /// There are more nodes than this program holds.
    #[error("more than {MAX_NODES} nodes")]
    TooManyNodes,
    /// This node's object cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

#[derive(Debug)]
pub(super) struct NodeCache {
    keys: Keys,
    families: Families,
    own_name: String,
    own: OwnNode,
    nodes: BTreeMap<Box<str>, Entry>,
    hash: RandomState,
    /// the number of the listing that is being read, or was read last
    listing: u32,
    /// a listing is being read
    listing_now: bool,
    /// one listing was read to its end
    listed: bool,
    changed: bool,
    overlaps: BTreeMap<Box<str>, Overlap>,
    notices: Vec<String>,
}

/// What is kept of a node.
#[derive(Debug)]
struct Entry {
    fingerprint: u64,
    created: i64,
    /// the last listing that had it, or the one after which it was made
    listing: u32,
    lease: Option<Arc<Lease>>,
    /// why it, or a family of it, has no lease
    problem: Option<Box<str>>,
}

/// What a listing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) nodes: usize,
    pub(super) leases: usize,
    /// Nodes whose lease, or a family of it, cannot be used.
    pub(super) skipped: usize,
}

impl NodeCache {
    pub(super) fn new(keys: Keys, families: Families, own_name: String) -> NodeCache {
        NodeCache {
            keys,
            families,
            own_name,
            own: OwnNode::Unknown,
            nodes: BTreeMap::new(),
            hash: RandomState::new(),
            listing: 0,
            listing_now: false,
            listed: false,
            changed: false,
            overlaps: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// A listing of all nodes starts. Until one comes to its end, the leases stay: a node that it
    /// does not have may follow, and one that took over another's subnet must not contradict it.
    pub(super) fn start_listing(&mut self) {
        self.listing = self.listing.wrapping_add(1);
        self.listing_now = true;
    }

    /// A listing has come to its end: what it did not have is gone.
    pub(super) fn finish_listing(&mut self) {
        let (listing, own_name) = (self.listing, self.own_name.as_str());
        let mut changed = !self.listed;
        self.nodes.retain(|_, entry| {
            let listed = entry.listing == listing;
            changed |= !listed && entry.lease.is_some();
            listed
        });
        self.changed |= changed;
        if !self.nodes.contains_key(own_name) {
            self.own = OwnNode::Missing;
        }
        self.listed = true;
        self.listing_now = false;
    }

    /// A node is new, or not as before, or is in a listing.
    pub(super) fn apply(&mut self, object: &NodeObject) -> Result<(), CacheError> {
        let name = object.name();
        if name == self.own_name {
            self.apply_own(object.node_with_condition(&self.keys)?);
        }
        let fingerprint = object.fingerprint(&self.hash, &self.keys);
        let known = self.nodes.get_mut(&*name);
        if let Some(known) = known
            && known.fingerprint == fingerprint
        {
            known.listing = self.listing;
            return Ok(());
        }
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&*name) {
            return Err(CacheError::TooManyNodes);
        }
        let mut entry = Entry {
            fingerprint,
            created: object.created(),
            listing: self.listing,
            lease: None,
            problem: None,
        };
        match self.keys.lease_of(&object.node(&self.keys), self.families) {
            Ok(None) => {}
            Ok(Some(found)) => {
                entry.lease = Some(Arc::new(found.lease));
                entry.problem = found
                    .skipped
                    .map(|error| format!("{error}: the address family is skipped").into());
            }
            Err(error) => entry.problem = Some(format!("{error}: the node is skipped").into()),
        }
        self.replace(&name, entry);
        Ok(())
    }

    /// A node was deleted.
    pub(super) fn remove(&mut self, object: &NodeObject) {
        let name = object.name();
        if name == self.own_name {
            self.own = OwnNode::Missing;
        }
        let removed = self.nodes.remove(&*name);
        self.changed |= removed.is_some_and(|entry| entry.lease.is_some());
    }

    /// This node's object.
    pub(super) fn own(&self) -> &OwnNode {
        &self.own
    }

    /// The leases, if they have changed since the last call. None before the end of a listing.
    pub(super) fn take_leases(&mut self) -> Option<Leases> {
        let whole = self.listed && !self.listing_now;
        if !whole || !std::mem::take(&mut self.changed) {
            return None;
        }
        self.find_overlaps();
        let leases = self
            .nodes
            .iter()
            .filter(|(name, _)| !self.overlaps.contains_key(*name))
            .filter_map(|(_, entry)| entry.lease.clone());
        Some(Arc::new(leases.collect()))
    }

    /// What is to be logged since the last call: nodes that cannot be used, or can be used again.
    pub(super) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn summary(&self) -> Summary {
        let nodes = self.nodes.values();
        Summary {
            nodes: nodes.len(),
            leases: nodes.clone().filter(|node| node.lease.is_some()).count(),
            skipped: nodes.filter(|node| node.problem.is_some()).count() + self.overlaps.len(),
        }
    }

    /// A new version of this node's object is no change by itself: kubelet writes one every few
    /// seconds.
    fn apply_own(&mut self, mut node: Node) {
        if let OwnNode::Present(known) = &self.own {
            let version =
                std::mem::replace(&mut node.resource_version, known.resource_version.clone());
            if **known == node {
                return;
            }
            node.resource_version = version;
        }
        self.own = OwnNode::Present(Arc::new(node));
    }

    fn replace(&mut self, name: &str, mut entry: Entry) {
        let known = self.nodes.get(name);
        let problem_before = known.and_then(|known| known.problem.as_deref());
        if problem_before != entry.problem.as_deref() {
            let text = entry.problem.as_deref();
            let text = text.unwrap_or("its lease can be used now");
            self.notices.push(format!("node {name}: {text}"));
        }
        let lease_before = known.and_then(|known| known.lease.clone());
        if lease_before == entry.lease {
            // snapshots share what is the same
            entry.lease = lease_before;
        } else {
            self.changed = true;
        }
        self.nodes.insert(name.into(), entry);
    }

    fn find_overlaps(&mut self) {
        let claims = self.nodes.iter().filter_map(|(name, entry)| {
            Some(Claim {
                node: name,
                own: **name == self.own_name,
                created: entry.created,
                subnets: entry.lease.as_ref()?.subnets,
            })
        });
        let overlaps = overlaps::find(claims.collect());
        for (node, overlap) in &overlaps {
            if self.overlaps.get(node) != Some(overlap) {
                self.notices.push(format!("node {node}: {overlap}"));
            }
        }
        for node in self.overlaps.keys() {
            if !overlaps.contains_key(node) && self.nodes.contains_key(node) {
                let text = format!("node {node}: its podCIDR overlaps no other node's any longer");
                self.notices.push(text);
            }
        }
        self.overlaps = overlaps;
    }
}

#[cfg(test)]
mod tests;
