//! Rules. Statements are compiled to the instructions that `nft` compiles them to, so `nft list`
//! prints them as statements; rules of the kernel are read as instructions. Rules are compared as
//! instructions.

use crate::{
    Family,
    compile::{address_offset, compile},
    expression::{NETWORK_HEADER, equal_to, is_dnat, jump_target, loads, meta},
};
use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{Expressions, MetaKey, Register};
use nix::libc::IFNAMSIZ;
use std::net::IpAddr;

/// One rule, compiled or as the kernel has it. Equal to another that does the same and has the same
/// comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(crate) expressions: Vec<Expressions>,
    /// at most [`crate::COMMENT_MAX`] bytes
    pub comment: Option<String>,
}

impl Rule {
    /// Compiles a rule for a table of that family. As by `nft`, the rule first matches the
    /// transport protocol of a port, and in inet and bridge tables the network protocol of an
    /// address.
    pub fn new(family: Family, statements: &[Statement]) -> Self {
        Rule {
            expressions: compile(family, statements),
            comment: None,
        }
    }

    /// The rule with this comment.
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Rule {
            comment: Some(comment.into()),
            ..self
        }
    }

    /// The statement is one of the rule's.
    pub fn contains(&self, statement: &Statement) -> bool {
        let wanted = compile(Family::Ip, std::slice::from_ref(statement));
        let mut parts = self.expressions.windows(wanted.len());
        parts.any(|part| part == wanted)
    }

    /// It matches the packet's destination address.
    pub fn matches_destination(&self) -> bool {
        let is_load = |expression: &Expressions| {
            let of = |ipv6| loads(expression, NETWORK_HEADER, address_offset(ipv6, false));
            of(false) || of(true)
        };
        self.expressions.iter().any(is_load)
    }

    /// It translates the packet's destination.
    pub fn is_dnat(&self) -> bool {
        self.expressions.iter().any(is_dnat)
    }

    /// The name of the incoming interface that it matches, if it matches a whole name.
    pub fn iifname(&self) -> Option<&str> {
        let load = meta(MetaKey::Iifname, Register::Reg1);
        self.expressions.windows(2).find_map(|pair| {
            let [first, second] = pair else { return None };
            let name = equal_to(second).filter(|name| *first == load && name.len() == IFNAMSIZ)?;
            std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()
        })
    }

    /// The chain that it jumps to.
    pub fn jump(&self) -> Option<&str> {
        self.expressions.iter().find_map(jump_target)
    }
}

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
