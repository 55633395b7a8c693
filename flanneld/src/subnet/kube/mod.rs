//! The Kubernetes subnet manager (upstream: pkg/subnet/kube): the API server's nodes are the
//! leases. A controller assigns each node's subnet (spec.podCIDRs); each flanneld publishes how its
//! node is reached as annotations.
//!
//! One watch of all nodes ([`watch`]) tells about this node ([`OwnNode`]) and about the others'
//! leases. The rest of the folder acts on this node: [`annotations`], the condition, the client.

mod annotations;
mod api_error;
mod archive;
mod client;
mod condition;
mod config_file;
mod manager;
mod name;
mod node;
mod own_lease;
mod protobuf;
mod retry;
mod watch;

pub(crate) use annotations::{Families, Keys, NodeError};
pub(crate) use archive::Archive;
pub(crate) use client::{Client, ClientError, fuzz as fuzz_source, fuzz_answer};
pub(crate) use manager::{Manager, OpenError, Options};
pub(crate) use node::{Condition, Node};
pub(crate) use watch::fuzz;

use std::sync::Arc;

/// This node's object, as the watch last saw it. During an outage of the API server it stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum OwnNode {
    /// Neither a snapshot nor a change told about it yet.
    #[default]
    Unknown,
    /// A whole snapshot does not have it, or it was deleted.
    Missing,
    Present(Arc<Node>),
}
