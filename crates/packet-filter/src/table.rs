//! Tables and chains as data.
use crate::Rule;
/// NFPROTO_*
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// The word that `nft` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        }
    }
}
/// A whole table. Equal to another with the same chains in whatever order: one that was deleted and made again comes last.
#[derive(Debug, Clone)]
pub struct Table {
    /// family
    pub family: Family,
    /// name
    pub name: String,
    /// comment
    pub comment: Option<String>,
    /// chains in order of creation
    pub chains: Vec<Chain>,
}
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let by_name = |table: &Table| {
            let mut order: Vec<usize> = (0..table.chains.len()).collect();
            order.sort_by_key(|position| &table.chains[*position].name);
            order
        };
        (self.family, &self.name, &self.comment) == (other.family, &other.name, &other.comment)
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
    /// name
    pub name: String,
    /// comment
    pub comment: Option<String>,
    /// None: a regular chain
    pub base: Option<BaseChain>,
    /// rules
    pub rules: Vec<Rule>,
}
/// `{ type nat hook postrouting priority 100; policy accept; }`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// type
    pub chain_type: ChainType,
    /// hook
    pub hook: Hook,
    /// priority
    pub priority: i32,
    /// policy: true = accept
    pub accept: bool,
}
/// filter, nat, route
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// filter
    Filter,
    /// nat
    Nat,
    /// route
    Route,
}
/// NF_INET_* / NF_BR_*
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
