//! Masquerade and forward rules, by nftables: upstream's tables, chains, comments and rules in its order
//! (pkg/trafficmngr/nftables), so that whoever reads `nft list ruleset` finds what they know.
use crate::{model::lease::Lease, model::network_config::NetworkConfig};
use ipnetwork::IpNetwork;
use packet_filter::{BaseChain, Chain, ChainType, Family, Hook, Rule, Statement, Table};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kube-proxy marks: "masquerade elsewhere".
const KUBE_MASQ_MARK: u32 = 0x4000;

/// Which rules are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSettings {
    /// `--ip-masq`
    pub masquerade: bool,
    /// the opposite of `--ip-masq-fully-random-disable`
    pub fully_random: bool,
    /// `--iptables-forward-rules`
    pub forward: bool,
}

/// The names of our tables.
pub const TABLES: [(Family, &str); 2] =
    [(Family::Ip, "flannel-ipv4"), (Family::Ip6, "flannel-ipv6")];

/// Both families' tables; that of a family which the network has not is empty, as upstream's is.
pub fn tables(config: &NetworkConfig, own: &Lease, settings: RuleSettings) -> Vec<Table> {
    let v4 = config
        .network
        .filter(|_| config.enable_ipv4)
        .zip(own.subnets.v4);
    let v6 = config
        .ipv6_network
        .filter(|_| config.enable_ipv6)
        .zip(own.subnets.v6);
    let v4 = v4.map(|(network, subnet)| (network.into(), subnet.into()));
    let v6 = v6.map(|(network, subnet)| (network.into(), subnet.into()));
    let multicast = |ip: IpAddr, prefix: u8| IpNetwork::new(ip, prefix).ok();
    let v4_multicast = multicast(Ipv4Addr::new(224, 0, 0, 0).into(), 4);
    let v6_multicast = multicast(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8);
    TABLES
        .iter()
        .zip([(v4, v4_multicast), (v6, v6_multicast)])
        .map(|(&(family, name), (ours, multicast))| Table {
            family,
            name: name.to_owned(),
            comment: Some(format!("rules for {name}")),
            chains: match ours.zip(multicast) {
                Some(((network, subnet), multicast)) => {
                    chains(network, subnet, multicast, settings)
                }
                None => Vec::new(),
            },
        })
        .collect()
}

fn chains(
    network: IpNetwork,
    subnet: IpNetwork,
    multicast: IpNetwork,
    settings: RuleSettings,
) -> Vec<Chain> {
    let masquerade = settings.masquerade.then(|| Chain {
        name: "postrtg".to_owned(),
        comment: Some("chain to manage traffic masquerading by flannel".to_owned()),
        base: Some(base(ChainType::Nat, Hook::Postrouting, 100)),
        rules: masquerade_rules(network, subnet, multicast, settings.fully_random),
    });
    let forward = settings.forward.then(|| Chain {
        name: "forward".to_owned(),
        comment: Some("chain to accept flannel traffic".to_owned()),
        base: Some(base(ChainType::Filter, Hook::Forward, 0)),
        rules: vec![
            rule([from(network), Statement::Accept]),
            rule([to(network), Statement::Accept]),
        ],
    });
    masquerade.into_iter().chain(forward).collect()
}

fn base(chain_type: ChainType, hook: Hook, priority: i32) -> BaseChain {
    BaseChain {
        chain_type,
        hook,
        priority,
        accept: true,
    }
}

/// The fourth rule reads `!=` the subnet where upstream's iptables rule reads `!` the network, so the last one is never
/// reached. The text is what upstream ships and checks, and what other tools look for: it stays.
fn masquerade_rules(
    network: IpNetwork,
    subnet: IpNetwork,
    multicast: IpNetwork,
    fully_random: bool,
) -> Vec<Rule> {
    let masquerade = || Statement::Masquerade { fully_random };
    let mark = Statement::Mark {
        value: KUBE_MASQ_MARK,
        mask: u32::MAX,
    };
    vec![
        rule([mark, Statement::Return]),
        rule([from(subnet), to(network), Statement::Return]),
        rule([from(network), to(subnet), Statement::Return]),
        rule([not_from(subnet), to(network), Statement::Return]),
        rule([from(network), not_to(multicast), masquerade()]),
        rule([not_from(network), to(network), masquerade()]),
    ]
}

fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule {
        statements: statements.into(),
        comment: None,
    }
}

fn from(net: IpNetwork) -> Statement {
    Statement::Saddr {
        net,
        negated: false,
    }
}

fn not_from(net: IpNetwork) -> Statement {
    Statement::Saddr { net, negated: true }
}

fn to(net: IpNetwork) -> Statement {
    Statement::Daddr {
        net,
        negated: false,
    }
}

fn not_to(net: IpNetwork) -> Statement {
    Statement::Daddr { net, negated: true }
}
