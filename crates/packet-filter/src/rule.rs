//! Rules as data: statements that compile to the same expressions `nft` makes (so that `nft list` shows them as people know them).
use ipnetwork::IpNetwork;
use std::net::IpAddr;
/// One rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// in order
    pub statements: Vec<Statement>,
    /// comment "..."
    pub comment: Option<String>,
}
/// One match or action. In ip/ip6 tables nothing is put before an address match; in inet/bridge the `meta nfproto`/`ether type` dependency is.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// ip[6] saddr NET (negated: !=)
    Saddr {
        /// network
        net: IpNetwork,
        /// !=
        negated: bool,
    },
    /// ip[6] daddr NET
    Daddr {
        /// network
        net: IpNetwork,
        /// !=
        negated: bool,
    },
    /// meta mark VALUE (mask 0xffffffff: exact) -> `meta mark & MASK == VALUE`
    Mark {
        /// value
        value: u32,
        /// mask
        mask: u32,
    },
    /// meta mark set meta mark | BITS
    SetMark {
        /// or-ed bits
        bits: u32,
    },
    /// iifname "x"
    Iifname(String),
    /// oifname "x"
    Oifname(String),
    /// tcp|udp|sctp dport N (with its `meta l4proto` dependency)
    Dport {
        /// IPPROTO_*: 6, 17, 132
        protocol: u8,
        /// port
        port: u16,
    },
    /// fib daddr type local
    FibDaddrLocal,
    /// ether saddr MAC
    EtherSaddr([u8; 6]),
    /// ct state established,related
    CtEstablished,
    /// masquerade [fully-random]
    Masquerade {
        /// NF_NAT_RANGE_PROTO_RANDOM_FULLY
        fully_random: bool,
    },
    /// dnat to IP:PORT
    Dnat {
        /// address
        ip: IpAddr,
        /// port
        port: Option<u16>,
    },
    /// return
    Return,
    /// accept
    Accept,
    /// drop
    Drop,
    /// jump CHAIN
    Jump(String),
    /// goto CHAIN
    Goto(String),
    /// read back from the kernel and not known to us: never equal to anything we want
    Unknown(String),
}
