//! Rules. Statements are compiled to the instructions that `nft` compiles them to, so `nft list`
//! prints them as statements; rules of the kernel are read as instructions. Rules are compared as
//! instructions.

use crate::{
    Family, Statement,
    compile::{address_offset, compile},
    expression::{NETWORK_HEADER, equal_to, immediate_address, is_dnat, jump_target, loads, meta},
};
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

    /// The address that it translates the packet's destination to.
    pub fn dnat_address(&self) -> Option<IpAddr> {
        let mut addresses = self.expressions.iter().filter_map(immediate_address);
        addresses.next().filter(|_| self.is_dnat())
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
