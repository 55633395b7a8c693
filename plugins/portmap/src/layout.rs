//! What the table `cni_hostport` of a family holds beside the Go plugin's chains: maps and sets whose elements are the pods'
//! ports, and the chains that look packets up in them. All of it is the same on every node and for every pod.
//!
//! The base chains come right after the Go plugin's (by one of priority), so that either's pods are reached while both
//! are in use on a node.
use packet_filter::{
    BaseChain, Chain, ChainType, DataType, Family, Field, Hook, Installed, Rule, Set, Statement,
    Table, Transaction, ValueType,
};
pub(crate) use shared_names::portmap::NFT_TABLE as TABLE;
use shared_names::portmap::{HOSTIP_HOSTPORTS, HOSTPORTS, MASQUERADE_ALL, MASQUERADE_PAIRS};

pub(crate) const COMMENT: &str = "CNI portmap plugin";
/// Mappings with conditions of their own, a rule each, asked before the maps.
pub(crate) const CONDITIONAL: &str = "map_conditional";
/// A rule for each length of a container's subnet.
pub(crate) const SUBNETS: &str = "map_subnets";
const LOOKUP: &str = "map_hostports";
const PREROUTING: &str = "map_prerouting";
const OUTPUT: &str = "map_output";
const MASQUERADING: &str = "map_masquerading";

/// The table of one family.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) ipv6: bool,
    /// protocol . port -> address . port
    pub(crate) any_ip: Set,
    /// host address . protocol . port -> address . port
    pub(crate) host_ip: Set,
    /// source . destination of what is to be masqueraded: a container's subnet, or localhost, to the container. (An answer within
    /// the subnet would not pass through the host again.)
    pub(crate) pairs: Set,
    /// containers to which everything is to be masqueraded
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

    /// The chains with their rules.
    pub(crate) fn table(&self) -> Table {
        let (saddr, daddr) = if self.ipv6 {
            (Field::Saddr6, Field::Daddr6)
        } else {
            (Field::Saddr4, Field::Daddr4)
        };
        let rule = |statements: Vec<Statement>| Rule {
            statements,
            comment: None,
        };
        let map = |key: &[Field], map: &Set| {
            rule(vec![Statement::DnatMap {
                key: key.to_vec(),
                map: map.name.clone(),
                ipv6: self.ipv6,
            }])
        };
        let masquerade = || Statement::Masquerade {
            fully_random: false,
        };
        let in_set = |key: &[Field], set: &Set| Statement::InSet {
            key: key.to_vec(),
            set: set.name.clone(),
        };
        let local = || {
            rule(vec![
                Statement::FibDaddrLocal,
                Statement::Jump(LOOKUP.into()),
            ])
        };
        let chain = |name: &str, hook: Option<(Hook, i32)>, rules| Chain {
            name: name.into(),
            comment: None,
            base: hook.map(|(hook, priority)| BaseChain {
                chain_type: ChainType::Nat,
                hook,
                priority,
                accept: true,
            }),
            rules,
        };
        let hostports = vec![
            rule(vec![Statement::Jump(CONDITIONAL.into())]),
            map(&[daddr, Field::L4Proto, Field::Dport], &self.host_ip),
            map(&[Field::L4Proto, Field::Dport], &self.any_ip),
        ];
        let masquerading = vec![
            rule(vec![in_set(&[saddr, daddr], &self.pairs), masquerade()]),
            rule(vec![Statement::Jump(SUBNETS.into())]),
            rule(vec![
                Statement::CtDnat,
                in_set(&[daddr], &self.all),
                masquerade(),
            ]),
        ];
        Table {
            family: self.family(),
            name: TABLE.into(),
            comment: Some(COMMENT.into()),
            chains: vec![
                chain(LOOKUP, None, hostports),
                chain(PREROUTING, Some((Hook::Prerouting, -99)), vec![local()]),
                chain(OUTPUT, Some((Hook::Output, -99)), vec![local()]),
                chain(MASQUERADING, Some((Hook::Postrouting, 101)), masquerading),
            ],
        }
    }

    /// The rule of `SUBNETS` for subnets of this length: only what was translated, since the container may well be asked directly.
    pub(crate) fn subnet_rule(&self, prefix: u8) -> Rule {
        let key = if self.ipv6 {
            vec![Field::SaddrNet6(prefix), Field::Daddr6]
        } else {
            vec![Field::SaddrNet4(prefix), Field::Daddr4]
        };
        Rule {
            statements: vec![
                Statement::CtDnat,
                Statement::InSet {
                    key,
                    set: self.pairs.name.clone(),
                },
                Statement::Masquerade {
                    fully_random: false,
                },
            ],
            comment: None,
        }
    }

    /// Is the rule for subnets of this length there?
    pub(crate) fn has_subnet_rule(&self, installed: &[Installed], prefix: u8) -> bool {
        let wanted = self.subnet_rule(prefix);
        installed
            .iter()
            .any(|rule| rule.chain == SUBNETS && rule.rule == wanted)
    }

    /// Are all rules there? `installed` are the table's.
    pub(crate) fn is_complete(&self, installed: &[Installed]) -> bool {
        self.table().chains.iter().all(|chain| {
            let found = installed.iter().filter(|rule| rule.chain == chain.name);
            found.map(|found| &found.rule).eq(&chain.rules)
        })
    }

    /// Puts in what is missing and makes the rules what they should be; elements and conditional mappings stay.
    pub(crate) fn install(&self, transaction: &mut Transaction) {
        let family = self.family();
        transaction.add_table(family, TABLE, Some(COMMENT));
        for set in self.sets() {
            transaction.add_set(family, TABLE, set);
        }
        for name in [CONDITIONAL, SUBNETS] {
            let chain = Chain {
                name: name.into(),
                comment: None,
                base: None,
                rules: Vec::new(),
            };
            transaction.add_chain(family, TABLE, &chain);
        }
        transaction.set_table(&self.table());
    }
}
