//! The annotations by which nodes tell each other how they are reached (upstream:
//! pkg/subnet/kube/annotations.go): their names, how they are read and what this node writes.

mod error;
mod read;
mod write;

pub(crate) use error::{NodeError, PrefixError};
pub(super) use read::NodeLease;
pub(super) use write::{Ignored, patch};

use super::Node;

/// The names of the annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    prefix: String,
    /// "true" on a node that runs flanneld.
    pub(crate) managed: String,
    pub(crate) backend_type: String,
    pub(crate) backend_data: String,
    pub(crate) backend_v6_data: String,
    pub(crate) public_ip: String,
    pub(crate) public_ipv6: String,
    /// An administrator's, published in place of `public_ip`.
    pub(crate) public_ip_overwrite: String,
    pub(crate) public_ipv6_overwrite: String,
    /// An administrator's, in place of `-public-ip`.
    pub(crate) node_public_ip: String,
    pub(crate) node_public_ipv6: String,
}

/// The address families that the network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

impl Keys {
    /// The names for `-kube-annotation-prefix`, by upstream's rule.
    pub(crate) fn new(prefix: &str) -> Result<Keys, PrefixError> {
        let mut prefix = prefix.to_owned();
        match prefix.matches('/').count() {
            0 => prefix.push('/'),
            1 => {}
            _ => return Err(PrefixError::Slashes(prefix)),
        }
        if !prefix.ends_with(['/', '-']) {
            prefix.push('-');
        }
        if !is_prefix(&prefix) {
            return Err(PrefixError::Format(prefix));
        }
        let key = |name: &str| format!("{prefix}{name}");
        Ok(Keys {
            managed: key("kube-subnet-manager"),
            backend_type: key("backend-type"),
            backend_data: key("backend-data"),
            backend_v6_data: key("backend-v6-data"),
            public_ip: key("public-ip"),
            public_ipv6: key("public-ipv6"),
            public_ip_overwrite: key("public-ip-overwrite"),
            public_ipv6_overwrite: key("public-ipv6-overwrite"),
            node_public_ip: key("node-public-ip"),
            node_public_ipv6: key("node-public-ipv6"),
            prefix,
        })
    }

    /// True if a flanneld runs on the node, or ran when its object was last written.
    pub(super) fn is_managed(&self, node: &Node) -> bool {
        node.annotation(&self.managed) == "true"
    }

    /// True for the annotations that [`super::Node`] keeps.
    pub(crate) fn has_prefix(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }
}

/// Upstream's pattern `(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?$`, which is bound to the end
/// only: the API server refuses what it lets through.
fn is_prefix(prefix: &str) -> bool {
    let in_label = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
    let Some((domain, name)) = prefix.split_once('/') else {
        return false;
    };
    let parent = domain.trim_end_matches(in_label);
    let last_label = parent.len() < domain.len();
    let parent_label = parent
        .strip_suffix('.')
        .is_some_and(|parent| parent.ends_with(in_label));
    let name_fits = name.is_empty() || name.len() > 1 && name.chars().all(in_label);
    last_label && parent_label && name_fits
}

#[cfg(test)]
mod tests;
