//! The names of an attachment's objects. They derive from network, container id and interface name,
//! so that DEL and GC find the objects without prevResult and without the namespace.

use packet_filter::COMMENT_MAX;
use plugin::{Attachment, hash::sha512_prefix};

/// The start of the names of the spoof check's chains.
pub(crate) const SPOOF_CHAIN: &str = "cni-br-iface-";

const PLUGIN: &str = "bridge";
/// The interface for which a container's iptables chain has upstream's name: what runtimes call the
/// first interface of a container.
const MAIN_INTERFACE: &str = "eth0";

/// `veth` and 8 hexadecimal digits, the form of upstream's random names.
pub(crate) fn veth_name(text: &str) -> String {
    format!("veth{}", sha512_prefix(text, 8))
}

/// Candidate `n` for the name of the host end.
pub(crate) fn host_veth(owner: &Attachment, n: u32) -> String {
    veth_name(&format!(
        "{}/{}/{}/{n}",
        owner.network, owner.container_id, owner.ifname
    ))
}

/// IFLA_IFALIAS of the host end, which identifies its owner.
pub(crate) fn alias(owner: &Attachment) -> String {
    owner.alias(PLUGIN)
}

/// The start of the alias of each host end of the network.
pub(crate) fn alias_prefix(network: &str) -> String {
    plugin::attachment::alias_prefix(PLUGIN, network)
}

/// The attachment's iptables chain. Upstream's chain, for the one interface that nearly every
/// container has; another interface of a container has a chain of its own.
pub(crate) fn iptables_chain(owner: &Attachment) -> String {
    match owner.ifname == MAIN_INTERFACE {
        true => iptables_shared_chain(owner),
        false => {
            let Attachment {
                network,
                container_id,
                ifname,
            } = owner;
            // neither ids nor names contain a slash
            let text = format!("{network}/{container_id}/{ifname}");
            format!("CNI-{}", sha512_prefix(text, 24))
        }
    }
}

/// Upstream's iptables chain, which upstream and earlier versions of this plugin use for all
/// interfaces of a container in a network.
pub(crate) fn iptables_shared_chain(owner: &Attachment) -> String {
    let text = format!("{}{}", owner.network, owner.container_id);
    format!("CNI-{}", sha512_prefix(text, 24))
}

/// The comment of the iptables rules.
pub(crate) fn iptables_comment(owner: &Attachment) -> String {
    let prefix = iptables_network_prefix(&owner.network);
    let upstreams = format!("{prefix}{}\"", owner.container_id);
    match owner.ifname == MAIN_INTERFACE {
        true => upstreams,
        false => format!("{upstreams} if: \"{}\"", owner.ifname),
    }
}

/// The start of the comment of each iptables rule of the network.
pub(crate) fn iptables_network_prefix(network: &str) -> String {
    format!("name: \"{network}\" id: \"")
}

/// The comment of a masquerade rule in nftables: at most 128 bytes, without quotation marks.
pub(crate) fn nft_comment(owner: &Attachment) -> String {
    let text = format!(
        "{}, net: {}, if: {}, id: {}",
        nft_prefix(owner),
        owner.network,
        owner.ifname,
        owner.container_id
    );
    truncated(text.replace('"', ""))
}

/// The start of the comment of the attachment's masquerade rules in nftables.
pub(crate) fn nft_prefix(owner: &Attachment) -> String {
    let text = format!("{}:{}", owner.ifname, owner.container_id);
    let network = nft_network_prefix(&owner.network);
    format!("{network}{}", sha512_prefix(text, 16))
}

/// The start of the comment of each masquerade rule of the network in nftables.
pub(crate) fn nft_network_prefix(network: &str) -> String {
    format!("{}-", sha512_prefix(network, 16))
}

/// The chain of the spoof check to which the interface's rule jumps.
pub(crate) fn spoof_chain(owner: &Attachment) -> String {
    format!("{SPOOF_CHAIN}{}-{}", owner.container_id, owner.ifname)
}

/// The chain of the spoof check that compares the MAC.
pub(crate) fn spoof_mac_chain(owner: &Attachment) -> String {
    format!("{}-mac", spoof_chain(owner))
}

/// The comment of each rule of the spoof check.
pub(crate) fn spoof_comment(owner: &Attachment) -> String {
    truncated(format!(
        "macspoofchk-{}-{}",
        owner.container_id, owner.ifname
    ))
}

/// Cuts the text to the length of a comment in nftables.
fn truncated(mut text: String) -> String {
    let boundary = |&end: &usize| text.is_char_boundary(end);
    text.truncate((0..=COMMENT_MAX).rev().find(boundary).unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_equal_upstreams() {
        let owner = Attachment::new("test", "1234", "eth0");
        assert_eq!(iptables_chain(&owner), "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(iptables_comment(&owner), r#"name: "test" id: "1234""#);
        let second = Attachment::new("test", "1234", "net1");
        assert_ne!(iptables_chain(&second), iptables_chain(&owner));
        assert_eq!(iptables_shared_chain(&second), iptables_chain(&owner));
        let comment = iptables_comment(&second);
        assert_eq!(comment, r#"name: "test" id: "1234" if: "net1""#);
        assert_eq!(spoof_chain(&owner), "cni-br-iface-1234-eth0");
        assert_eq!(spoof_mac_chain(&owner), "cni-br-iface-1234-eth0-mac");
        assert_eq!(spoof_comment(&owner), "macspoofchk-1234-eth0");
        let comment = nft_comment(&owner);
        assert!(comment.starts_with(&nft_prefix(&owner)));
        assert!(comment.ends_with(", net: test, if: eth0, id: 1234"));
        assert_eq!(
            nft_prefix(&owner).len(),
            33,
            "16 + dash + 16 hexadecimal digits"
        );
    }

    #[test]
    fn host_ends_of_different_attachments_have_different_names() {
        let a = Attachment::new("net", "a", "eth0");
        assert_eq!(host_veth(&a, 0).len(), 12);
        assert_eq!(host_veth(&a, 0), host_veth(&a.clone(), 0));
        for other in [
            host_veth(&a, 1),
            host_veth(&Attachment::new("net", "b", "eth0"), 0),
            host_veth(&Attachment::new("net2", "a", "eth0"), 0),
            host_veth(&Attachment::new("net", "a", "eth1"), 0),
        ] {
            assert_ne!(host_veth(&a, 0), other);
        }
    }

    #[test]
    fn names_of_long_ids_fit_the_kernels_limits() {
        let owner = Attachment::new(&"n".repeat(300), &"c".repeat(300), "interface-name1");
        assert!(alias(&owner).len() < 256);
        assert!(alias(&owner).starts_with(&alias_prefix(&"n".repeat(300))));
        assert_eq!(nft_comment(&owner).len(), 128);
        let other = Attachment::new(&"n".repeat(300), &"c".repeat(301), "interface-name1");
        assert_ne!(alias(&owner), alias(&other));
    }
}
