//! Rules as data: statements that compile to the same expressions `nft` makes (so that `nft list` shows them as people know them).
use ipnetwork::IpNetwork;
use std::net::IpAddr;
/// One rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// in order
    pub statements: Vec<Statement>,
    /// comment "...", at most [`crate::COMMENT_MAX`] bytes
    pub comment: Option<String>,
}
/// One match or action. In ip/ip6 tables nothing is put before an address match; in inet/bridge the `meta nfproto`/`meta protocol` dependency is.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// ip[6] saddr NET (negated: !=)
    Saddr {
        /// network without host bits, as it is read back
        net: IpNetwork,
        /// !=
        negated: bool,
    },
    /// ip[6] daddr NET
    Daddr {
        /// network without host bits, as it is read back
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
    /// iifname "x"; a `*` at the end matches any rest
    Iifname(String),
    /// oifname "x"; a `*` at the end matches any rest
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
    /// ct status dnat
    CtDnat,
    /// `ip saddr . ip daddr @SET`: goes on if the set has the key
    InSet {
        /// what the key is made of, in order
        key: Vec<Field>,
        /// name of a set of the same table
        set: String,
    },
    /// `ip saddr vmap @MAP`: does what the element says
    VerdictMap {
        /// what the key is made of, in order
        key: Vec<Field>,
        /// name of a map of the same table
        map: String,
    },
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
    /// `dnat ip to meta l4proto . th dport map @MAP`: to the address and port that the element holds
    DnatMap {
        /// what the key is made of, in order
        key: Vec<Field>,
        /// name of a map of the same table whose values are address . port
        map: String,
        /// the values are IPv6 addresses
        ipv6: bool,
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
/// A part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// ip saddr
    Saddr4,
    /// ip daddr
    Daddr4,
    /// ip6 saddr
    Saddr6,
    /// `ip saddr & MASK`, by the mask's length: the network that the address is in
    SaddrNet4(u8),
    /// `ip6 saddr & MASK`
    SaddrNet6(u8),
    /// ip6 daddr
    Daddr6,
    /// meta l4proto
    L4Proto,
    /// th dport
    Dport,
    /// iifname
    Iifname,
}
