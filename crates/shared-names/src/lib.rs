//! Names of the tables, sets and chains that the CNI plugins share among all pods of a node.
//! `flanneld cleanup` deletes these objects. It needs the names but none of the plugins' code, so
//! the names are a crate without dependencies.

/// Names of the `bridge` plugin.
pub mod bridge {
    /// The nftables table of the masquerade rules, in family `inet`.
    pub const NFT_TABLE: &str = "cni_plugins_masquerade";
}

/// Names of the `portmap` plugin.
pub mod portmap {
    /// The nftables table, in families `ip` and `ip6`.
    pub const NFT_TABLE: &str = "cni_hostport";
    /// Map: protocol . host port -> container address . container port.
    pub const HOSTPORTS: &str = "hostports";
    /// Map: host address . protocol . host port -> container address . container port.
    pub const HOSTIP_HOSTPORTS: &str = "hostip_hostports";
    /// Set: source address or subnet . container address of the traffic to masquerade.
    pub const MASQUERADE_PAIRS: &str = "masquerade_pairs";
    /// Set: addresses of containers whose incoming traffic is all masqueraded.
    pub const MASQUERADE_ALL: &str = "masquerade_all";
    /// The maps and sets with elements for each pod.
    pub const POD_SETS: [&str; 4] = [
        HOSTPORTS,
        HOSTIP_HOSTPORTS,
        MASQUERADE_PAIRS,
        MASQUERADE_ALL,
    ];

    /// The iptables table of the chains.
    pub const IPTABLES_TABLE: &str = "nat";
    /// The chain that jumps to each pod's own chain: one rule or more for each pod.
    pub const DNAT_CHAIN: &str = "CNI-HOSTPORT-DNAT";
    /// The chain that sets the mark for masquerading.
    pub const SETMARK_CHAIN: &str = "CNI-HOSTPORT-SETMARK";
    /// The chain that masquerades marked packets.
    pub const MASQ_CHAIN: &str = "CNI-HOSTPORT-MASQ";
    /// The iptables chains that all pods share.
    pub const SHARED_CHAINS: [&str; 3] = [DNAT_CHAIN, SETMARK_CHAIN, MASQ_CHAIN];
}

/// Names of the `firewall` plugin.
pub mod firewall {
    /// The iptables table of the chains.
    pub const IPTABLES_TABLE: &str = "filter";
    /// The chain with the rules that accept each pod's traffic.
    pub const FORWARD_CHAIN: &str = "CNI-FORWARD";
    /// The default name of the administrator's chain, which `FORWARD_CHAIN` jumps to first.
    pub const ADMIN_CHAIN: &str = "CNI-ADMIN";
    /// The first chain of the ingress policies `same-bridge` and `isolated`: one or two rules for
    /// each bridge.
    pub const ISOLATION_STAGE_1_CHAIN: &str = "CNI-ISOLATION-STAGE-1";
    /// The second chain of these policies: one rule for each bridge.
    pub const ISOLATION_STAGE_2_CHAIN: &str = "CNI-ISOLATION-STAGE-2";
}
