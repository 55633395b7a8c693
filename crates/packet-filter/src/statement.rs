//! What a rule is made of, in nft's words.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// One match or action.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// ip[6] saddr NET (negated: !=)
    Saddr {
        /// without host bits
        net: IpNetwork,
        /// !=
        negated: bool,
    },
    /// ip[6] daddr NET
    Daddr {
        /// without host bits
        net: IpNetwork,
        /// !=
        negated: bool,
    },
    /// meta mark & MASK == VALUE
    Mark {
        /// value after the mask
        value: u32,
        /// u32::MAX compares the whole mark
        mask: u32,
    },
    /// meta mark set meta mark | BITS
    SetMark {
        /// bits to set
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
        /// destination port
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
    /// `ip saddr . ip daddr @SET`: the set has the key
    InSet {
        /// the key's parts, in order
        key: Vec<Field>,
        /// name of a set of the same table
        set: String,
    },
    /// `ip saddr vmap @MAP`: the verdict of the key's element
    VerdictMap {
        /// the key's parts, in order
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
        /// new destination
        ip: IpAddr,
        /// new destination port; None leaves it
        port: Option<u16>,
    },
    /// `dnat ip to meta l4proto . th dport map @MAP`: to the address and port of the key's element
    DnatMap {
        /// the key's parts, in order
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
    /// `ip saddr & MASK`, by the length of the mask
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
