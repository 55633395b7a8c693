//! Tables and chains as plain data.

use crate::Rule;

/// A family of tables (NFPROTO_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// ip
    Ip,
    /// ip6
    Ip6,
    /// inet
    Inet,
    /// bridge
    Bridge,
}

impl Family {
    /// Its name in `nft`.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        }
    }
}

/// A table with its chains and rules. Equal to another with the same chains in any order: a chain
/// that was deleted and added again is listed last.
#[derive(Debug, Clone)]
pub struct Table {
    /// the family whose packets it sees
    pub family: Family,
    /// unique in its family
    pub name: String,
    /// at most [`crate::COMMENT_MAX`] bytes
    pub comment: Option<String>,
    /// in order of creation
    pub chains: Vec<Chain>,
    /// its chains see no packet (NFT_TABLE_F_DORMANT). [`crate::Transaction`] sets up tables that
    /// are not.
    pub dormant: bool,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let by_name = |table: &Table| {
            let mut order: Vec<usize> = (0..table.chains.len()).collect();
            order.sort_by_key(|position| &table.chains[*position].name);
            order
        };
        (self.family, &self.name, &self.comment) == (other.family, &other.name, &other.comment)
            && self.dormant == other.dormant
            && self.chains.len() == other.chains.len()
            && by_name(self)
                .into_iter()
                .zip(by_name(other))
                .all(|(mine, theirs)| self.chains[mine] == other.chains[theirs])
    }
}

/// A chain with its rules in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// unique in its table
    pub name: String,
    /// at most [`crate::COMMENT_MAX`] bytes
    pub comment: Option<String>,
    /// None for a regular chain
    pub base: Option<BaseChain>,
    /// in order of evaluation
    pub rules: Vec<Rule>,
}

/// `{ type nat hook postrouting priority 100; policy accept; }`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// what its rules may do
    pub chain_type: ChainType,
    /// where packets enter it
    pub hook: Hook,
    /// chains with lower numbers come first
    pub priority: i32,
    /// the policy is accept, else drop
    pub accept: bool,
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// filter
    Filter,
    /// nat
    Nat,
    /// route
    Route,
}

/// The hook of a base chain (NF_INET_*, NF_BR_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// prerouting
    Prerouting,
    /// input
    Input,
    /// forward
    Forward,
    /// output
    Output,
    /// postrouting
    Postrouting,
}
