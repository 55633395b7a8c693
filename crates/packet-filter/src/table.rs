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
/// A whole table.
#[derive(Debug, Clone, PartialEq)]
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
