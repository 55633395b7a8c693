//! The owner of everything that an ADD makes.

use crate::hash::shortened;
use cni_conf::GcAttachment;

/// An attachment of a container to a network, identified as in CNI spec section 2: no other
/// attachment has the same three values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// `name` of the network configuration.
    pub network: String,
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_IFNAME
    pub ifname: String,
}

impl Attachment {
    /// From its three parts.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        }
    }

    /// An entry of the list that GC is given, of which every entry is in the network of the call.
    pub(crate) fn of_gc(network: &str, attachment: &GcAttachment) -> Attachment {
        Attachment::new(network, &attachment.container_id, &attachment.ifname)
    }

    /// IFLA_IFALIAS of a device on the host that belongs to the attachment, by which GC finds its
    /// owner: `cni-PLUGIN NETWORK CONTAINER_ID IFNAME`, at most 255 bytes.
    pub fn alias(&self, plugin: &str) -> String {
        format!(
            "{}{} {}",
            alias_prefix(plugin, &self.network),
            shortened(&self.container_id, 128),
            self.ifname
        )
    }
}

/// The container id in the [`alias`](Attachment::alias) of a device. None: it has another form, or
/// the id is shortened.
pub fn container_of_alias(alias: &str) -> Option<&str> {
    let mut words = alias.strip_prefix("cni-")?.split(' ');
    let (_plugin, _network, id) = (words.next()?, words.next()?, words.next()?);
    let is_whole = words.next().is_some() && words.next().is_none();
    (is_whole && !id.starts_with('#')).then_some(id)
}

/// Start of the [`alias`](Attachment::alias) of each device that `plugin` made for attachments to
/// `network`.
pub fn alias_prefix(plugin: &str, network: &str) -> String {
    format!("cni-{plugin} {} ", shortened(network, 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_names_the_attachment_and_fits_the_kernels_limit() {
        let alias = |network: &str, id: &str| Attachment::new(network, id, "eth0").alias("bridge");
        assert_eq!(alias("net", "c1"), "cni-bridge net c1 eth0");
        assert_eq!(container_of_alias(&alias("net", "c1")), Some("c1"));
        assert_eq!(container_of_alias(&alias("net", &"n".repeat(200))), None);
        for other in ["", "cni-bridge net c1", "uplink to net c1 eth0"] {
            assert_eq!(container_of_alias(other), None, "{other}");
        }
        let (long, longer) = ("n".repeat(300), "n".repeat(301));
        assert!(alias(&long, &long).len() < 256);
        assert!(alias(&long, &long).starts_with(&alias_prefix("bridge", &long)));
        assert_ne!(alias(&long, &long), alias(&long, &longer));
    }
}
