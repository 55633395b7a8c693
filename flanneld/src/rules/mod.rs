//! Packet-filter rules: this node's own in nftables, those that Go flanneld left in iptables, and
//! what the CNI plugins share among pods.

pub(crate) mod legacy_chains;
pub(crate) mod nftables;
pub(crate) mod plugin_tables;

/// Which rules the options ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleSettings {
    /// `-ip-masq`
    pub(crate) masquerade: bool,
    /// not `-ip-masq-fully-random-disable`
    pub(crate) fully_random: bool,
    /// `-iptables-forward-rules`
    pub(crate) forward: bool,
}
