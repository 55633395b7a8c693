//! Whom a certificate names.

use super::certificate::Certificate;

/// Before a node's name in the URI of a certificate that `flanneld pki issue` makes.
pub(super) const NODE_URI: &str = "urn:flannel:node:";
/// The organization in the subject of an operator's certificate.
pub(super) const OPERATORS: &str = "flannel:operators";
/// Longest name, bytes.
const NAME_LIMIT: usize = 256;

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// May change every lease.
    Operator,
    /// A node.
    Node {
        name: String,
        /// True if `flanneld pki` made it: no other node has this name. A common name that another
        /// program chose may be that of all nodes.
        unique: bool,
    },
    /// The certificate names no node.
    Unnamed,
}

impl Identity {
    /// The role in the subject makes an operator; else a URI of ours names a node, else its only
    /// URI, else the common name.
    pub(crate) fn of(certificate: &Certificate) -> Identity {
        if certificate
            .organizations
            .iter()
            .any(|name| name == OPERATORS)
        {
            return Identity::Operator;
        }
        let ours = |uri: &String| uri.strip_prefix(NODE_URI).and_then(usable);
        if let Some(name) = certificate.uris.iter().find_map(ours) {
            return Identity::Node { name, unique: true };
        }
        let named = match certificate.uris.as_slice() {
            [uri] => usable(uri),
            _ => certificate.common_name.as_deref().and_then(usable),
        };
        named.map_or(Identity::Unnamed, |name| Identity::Node {
            name,
            unique: false,
        })
    }
}

fn usable(name: &str) -> Option<String> {
    let name = name.trim();
    (!name.is_empty() && name.len() <= NAME_LIMIT).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(common_name: &str, organization: &str, uris: &[&str]) -> Identity {
        let mut certificate = Certificate::default();
        certificate.common_name = Some(common_name.to_owned());
        certificate.organizations = vec![organization.to_owned()];
        certificate.uris = uris.iter().map(|&uri| uri.to_owned()).collect();
        Identity::of(&certificate)
    }

    fn node(name: &str, unique: bool) -> Identity {
        let name = name.to_owned();
        Identity::Node { name, unique }
    }

    #[test]
    fn role_then_uri_then_common_name() {
        assert_eq!(identity("a", "x", &[]), node("a", false));
        assert_eq!(identity("a", "x", &["urn:flannel:node:b"]), node("b", true));
        let uri = "spiffe://example/node/c";
        assert_eq!(identity("a", "x", &[uri]), node(uri, false));
        assert_eq!(identity("a", "x", &[uri, "https://d"]), node("a", false));
        let both = [uri, "urn:flannel:node:b"];
        assert_eq!(identity("a", "x", &both), node("b", true));
        assert_eq!(identity("a", OPERATORS, &both), Identity::Operator);
        for unnamed in ["", "  ", &"x".repeat(257)] {
            assert_eq!(identity(unnamed, "x", &[]), Identity::Unnamed);
        }
        assert_eq!(
            identity("", "x", &["urn:flannel:node:"]),
            node("urn:flannel:node:", false)
        );
    }
}
