//! The names of what belongs to one attachment. Each can be worked out again from network, container id and interface name
//! alone, so that DEL and GC find it without prevResult and without the namespace.
use cni_conf::GcAttachment;
use packet_filter::COMMENT_MAX;
use sha2::{Digest, Sha512};
use std::fmt::Write;

/// One attachment of one network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    network: String,
    container: String,
    ifname: String,
}

impl Owner {
    /// Network name, container id, interface name.
    pub fn new(network: &str, container: &str, ifname: &str) -> Owner {
        Owner {
            network: network.into(),
            container: container.into(),
            ifname: ifname.into(),
        }
    }

    /// As GC is told.
    pub fn of(network: &str, attachment: &GcAttachment) -> Owner {
        Owner::new(network, &attachment.container_id, &attachment.ifname)
    }

    /// Who a call is about.
    pub fn of_call(call: &plugin::Call) -> Owner {
        Owner::new(&call.net.name, &call.container_id, &call.ifname)
    }

    /// The container id.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Candidate `n` for the name of the veth's host end: `veth` and 8 hex digits, as upstream's random names look.
    pub fn host_veth(&self, n: u32) -> String {
        let text = format!("{}/{}/{}/{n}", self.network, self.container, self.ifname);
        veth_name(&text)
    }

    /// IFLA_IFALIAS of the host end: the proof that it is ours, and whose. At most 255 bytes, whatever the id's length.
    pub fn alias(&self) -> String {
        format!(
            "{}{} {}",
            alias_prefix(&self.network),
            bounded(&self.container, 128),
            self.ifname
        )
    }

    /// The iptables chain, shared by the interfaces of one container in one network, as upstream names it.
    pub fn masquerade_chain(&self) -> String {
        format!(
            "CNI-{}",
            hex(&format!("{}{}", self.network, self.container), 24)
        )
    }

    /// The comment of the iptables rules (Go's `%q` of names that need no escapes).
    pub fn masquerade_comment(&self) -> String {
        format!("name: \"{}\" id: \"{}\"", self.network, self.container)
    }

    /// How the comment of a masquerade rule in nftables begins.
    pub fn nft_prefix(&self) -> String {
        format!(
            "{}{}",
            nft_network_prefix(&self.network),
            hex(&format!("{}:{}", self.ifname, self.container), 16)
        )
    }

    /// The whole comment: at most 128 bytes, without quotation marks.
    pub fn nft_comment(&self) -> String {
        let text = format!(
            "{}, net: {}, if: {}, id: {}",
            self.nft_prefix(),
            self.network,
            self.ifname,
            self.container
        );
        cut(text.replace('"', ""))
    }

    /// The chain of the spoof check that looks at the interface.
    pub fn spoof_chain(&self) -> String {
        format!("{SPOOF_CHAIN}{}-{}", self.container, self.ifname)
    }

    /// The chain of the spoof check that looks at the MAC.
    pub fn spoof_mac_chain(&self) -> String {
        format!("{}-mac", self.spoof_chain())
    }

    /// The comment of each rule of the spoof check, at most 128 bytes.
    pub fn spoof_comment(&self) -> String {
        cut(format!("macspoofchk-{}-{}", self.container, self.ifname))
    }
}

/// `veth` and 8 hex digits that follow from the text.
pub fn veth_name(text: &str) -> String {
    format!("veth{}", hex(text, 8))
}

/// How the names of a spoof check's chains begin.
pub const SPOOF_CHAIN: &str = "cni-br-iface-";

/// How the alias of every host end of this network begins.
pub fn alias_prefix(network: &str) -> String {
    format!("cni-bridge {} ", bounded(network, 64))
}

/// How the comment of every masquerade rule of this network begins.
pub fn nft_network_prefix(network: &str) -> String {
    format!("{}-", hex(network, 16))
}

/// How the comment of every iptables rule of this network begins.
pub fn masquerade_network_prefix(network: &str) -> String {
    format!("name: \"{network}\" id: \"")
}

/// As much as a comment in nftables holds.
fn cut(mut text: String) -> String {
    let end = (0..=COMMENT_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or_default());
    text
}

/// The text, or `#` and a hash of it where it is too long. `#` cannot stand in an id or a name.
fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        text.into()
    } else {
        format!("#{}", hex(text, 32))
    }
}

/// The first hex digits of the text's SHA-512.
fn hex(text: &str, digits: usize) -> String {
    let mut out = String::with_capacity(128);
    for byte in Sha512::digest(text.as_bytes()) {
        // writing into a String cannot fail
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out.truncate(digits);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_names() {
        let owner = Owner::new("test", "1234", "eth0");
        assert_eq!(owner.masquerade_chain(), "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(owner.masquerade_comment(), r#"name: "test" id: "1234""#);
        assert_eq!(owner.spoof_chain(), "cni-br-iface-1234-eth0");
        assert_eq!(owner.spoof_mac_chain(), "cni-br-iface-1234-eth0-mac");
        assert_eq!(owner.spoof_comment(), "macspoofchk-1234-eth0");
        assert!(owner.nft_comment().starts_with(&owner.nft_prefix()));
        assert!(
            owner
                .nft_comment()
                .ends_with(", net: test, if: eth0, id: 1234")
        );
        assert_eq!(
            owner.nft_prefix().len(),
            33,
            "16 + dash + 16 hexadecimal digits"
        );
    }

    #[test]
    fn host_veths_fit_and_differ() {
        let a = Owner::new("net", "a", "eth0");
        assert_eq!(a.host_veth(0).len(), 12);
        assert_eq!(a.host_veth(0), a.clone().host_veth(0));
        for other in [
            a.host_veth(1),
            Owner::new("net", "b", "eth0").host_veth(0),
            Owner::new("net2", "a", "eth0").host_veth(0),
            Owner::new("net", "a", "eth1").host_veth(0),
        ] {
            assert_ne!(a.host_veth(0), other);
        }
    }

    #[test]
    fn long_ids_stay_within_the_kernels_limits() {
        let owner = Owner::new(&"n".repeat(300), &"c".repeat(300), "interface-name1");
        assert!(owner.alias().len() < 256);
        assert!(owner.alias().starts_with(&alias_prefix(&"n".repeat(300))));
        assert_eq!(owner.nft_comment().len(), 128);
        let other = Owner::new(&"n".repeat(300), &"c".repeat(301), "interface-name1");
        assert_ne!(owner.alias(), other.alias());
    }
}
