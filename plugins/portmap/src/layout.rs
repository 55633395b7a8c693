//! The table `cni_hostport` of one family: maps and sets with elements for each pod, and chains
//! that look packets up in them. The chains are the same on every node and all pods share them. The
//! Go plugin's chains in this table stay.
//!
//! The base chains run directly after the Go plugin's, so that a node with pods of both plugins
//! reaches both.

use nix::libc::{NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC};
use packet_filter::{
    BaseChain, Chain, ChainType, DataType, Family, Field, Hook, Installed, Rule, Set, Statement,
    Table, Transaction, ValueType,
};
pub(crate) use shared_names::portmap::NFT_TABLE as TABLE;
use shared_names::portmap::{HOSTIP_HOSTPORTS, HOSTPORTS, MASQUERADE_ALL, MASQUERADE_PAIRS};

/// The table's comment, as upstream.
const COMMENT: &str = "CNI portmap plugin";
/// Mappings with conditions: one rule each, before the map lookups.
pub(crate) const CONDITIONAL: &str = "map_conditional";
/// One rule for each prefix length of a container's subnet.
pub(crate) const SUBNETS: &str = "map_subnets";
const LOOKUP: &str = "map_hostports";
const PREROUTING: &str = "map_prerouting";
const OUTPUT: &str = "map_output";
const MASQUERADING: &str = "map_masquerading";
const MASQUERADE: Statement = Statement::Masquerade {
    fully_random: false,
};

#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) ipv6: bool,
    /// protocol . host port -> container address . port
    pub(crate) any_ip: Set,
    /// host address . protocol . host port -> container address . port
    pub(crate) host_ip: Set,
    /// source . container address of traffic to masquerade; the source is the container's subnet or
    /// localhost. (Without masquerading, a reply within the subnet does not pass through the host.)
    pub(crate) pairs: Set,
    /// addresses of containers whose incoming traffic is all masqueraded
    pub(crate) all: Set,
}

impl Layout {
    pub(crate) fn new(ipv6: bool) -> Layout {
        let address = if ipv6 {
            DataType::Ipv6Addr
        } else {
            DataType::Ipv4Addr
        };
        let port = [DataType::InetProto, DataType::InetService];
        let set = |name: &str, key: Vec<DataType>, map: bool| Set {
            name: name.into(),
            key,
            value: map.then(|| ValueType::Data(vec![address, DataType::InetService])),
            comment: None,
        };
        Layout {
            ipv6,
            any_ip: set(HOSTPORTS, port.to_vec(), true),
            host_ip: set(HOSTIP_HOSTPORTS, [&[address], &port[..]].concat(), true),
            pairs: set(MASQUERADE_PAIRS, vec![address, address], false),
            all: set(MASQUERADE_ALL, vec![address], false),
        }
    }

    pub(crate) fn family(&self) -> Family {
        if self.ipv6 { Family::Ip6 } else { Family::Ip }
    }

    pub(crate) fn sets(&self) -> [&Set; 4] {
        [&self.any_ip, &self.host_ip, &self.pairs, &self.all]
    }

    /// The chains whose rules never change.
    fn table(&self) -> Table {
        let lookup_local =
            || vec![self.rule(&[Statement::FibDaddrLocal, Statement::Jump(LOOKUP.into())])];
        let base = |hook, priority| {
            Some(BaseChain {
                chain_type: ChainType::Nat,
                hook,
                priority: priority + 1,
                accept: true,
            })
        };
        Table {
            family: self.family(),
            name: TABLE.into(),
            dormant: false,
            comment: Some(COMMENT.into()),
            chains: vec![
                chain(LOOKUP, None, self.lookup_rules()),
                chain(
                    PREROUTING,
                    base(Hook::Prerouting, NF_IP_PRI_NAT_DST),
                    lookup_local(),
                ),
                chain(
                    OUTPUT,
                    base(Hook::Output, NF_IP_PRI_NAT_DST),
                    lookup_local(),
                ),
                chain(
                    MASQUERADING,
                    base(Hook::Postrouting, NF_IP_PRI_NAT_SRC),
                    self.masquerade_rules(),
                ),
            ],
        }
    }

    fn lookup_rules(&self) -> Vec<Rule> {
        let dnat = |key: &[Field], map: &Set| {
            self.rule(&[Statement::DnatMap {
                key: key.to_vec(),
                map: map.name.clone(),
                ipv6: self.ipv6,
            }])
        };
        vec![
            self.rule(&[Statement::Jump(CONDITIONAL.into())]),
            dnat(&[self.daddr(), Field::L4Proto, Field::Dport], &self.host_ip),
            dnat(&[Field::L4Proto, Field::Dport], &self.any_ip),
        ]
    }

    fn masquerade_rules(&self) -> Vec<Rule> {
        let saddr = if self.ipv6 {
            Field::Saddr6
        } else {
            Field::Saddr4
        };
        let in_pairs = in_set(vec![saddr, self.daddr()], &self.pairs);
        let in_all = in_set(vec![self.daddr()], &self.all);
        vec![
            self.rule(&[in_pairs, MASQUERADE]),
            self.rule(&[Statement::Jump(SUBNETS.into())]),
            self.rule(&[Statement::CtDnat, in_all, MASQUERADE]),
        ]
    }

    fn rule(&self, statements: &[Statement]) -> Rule {
        Rule::new(self.family(), statements)
    }

    fn daddr(&self) -> Field {
        if self.ipv6 {
            Field::Daddr6
        } else {
            Field::Daddr4
        }
    }

    /// The rule of `SUBNETS` for subnets of this length. It matches translated traffic only: a
    /// container that is addressed directly sees the real source.
    pub(crate) fn subnet_rule(&self, prefix: u8) -> Rule {
        let subnet = if self.ipv6 {
            Field::SaddrNet6(prefix)
        } else {
            Field::SaddrNet4(prefix)
        };
        let in_pairs = in_set(vec![subnet, self.daddr()], &self.pairs);
        self.rule(&[Statement::CtDnat, in_pairs, MASQUERADE])
    }

    /// `installed` are all rules of the table.
    pub(crate) fn has_subnet_rule(&self, installed: &[Installed], prefix: u8) -> bool {
        let wanted = self.subnet_rule(prefix);
        installed
            .iter()
            .any(|rule| rule.chain == SUBNETS && rule.rule == wanted)
    }

    /// True if every chain of [`table`](Self::table) has exactly its rules. `installed` are all
    /// rules of the table.
    pub(crate) fn is_complete(&self, installed: &[Installed]) -> bool {
        self.table().chains.iter().all(|chain| {
            let found = installed.iter().filter(|rule| rule.chain == chain.name);
            found.map(|found| &found.rule).eq(&chain.rules)
        })
    }

    /// Adds missing sets and chains and replaces the shared rules. Elements and conditional
    /// mappings stay.
    pub(crate) fn install(&self, transaction: &mut Transaction) {
        let family = self.family();
        transaction.add_table(family, TABLE, Some(COMMENT));
        for set in self.sets() {
            transaction.add_set(family, TABLE, set);
        }
        for name in [CONDITIONAL, SUBNETS] {
            transaction.add_chain(family, TABLE, &chain(name, None, Vec::new()));
        }
        transaction.set_table(&self.table());
    }
}

fn chain(name: &str, base: Option<BaseChain>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        comment: None,
        base,
        rules,
    }
}

fn in_set(key: Vec<Field>, set: &Set) -> Statement {
    Statement::InSet {
        key,
        set: set.name.clone(),
    }
}
