//! Rules of iptables as plain data: the chains of a daemon, and the jumps to them.

/// The chains of one family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RuleSet {
    pub(crate) ipv6: bool,
    /// None that is absent and that nothing leads to. Those of a disabled family are absent.
    pub(crate) chains: Vec<RuleChain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RuleChain {
    /// "nat", "filter"
    pub(crate) table: &'static str,
    /// The built-in chain that leads to it.
    pub(crate) from: &'static str,
    pub(crate) name: String,
    /// In order, as `iptables-save` prints them without `-A CHAIN `.
    pub(crate) rules: Vec<String>,
    /// The rules of `from` that lead to it, in the same form. Wanted is exactly one.
    pub(crate) jumps: Vec<String>,
}
