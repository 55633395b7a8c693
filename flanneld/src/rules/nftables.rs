//! Masquerade and forward rules in nftables: upstream's tables, chains, comments and rules in its
//! order (pkg/trafficmngr/nftables), so that `nft list ruleset` shows what operators of Go flannel
//! know.

use super::{Nets, RuleSettings, nets_of};
use crate::{model::lease::Lease, model::network_config::NetworkConfig};
use ipnetwork::IpNetwork;
use packet_filter::{BaseChain, Chain, ChainType, Family, Hook, Rule, Statement, Table};

/// The mark that kube-proxy sets on packets that it masquerades itself.
const KUBE_MASQ_MARK: u32 = 0x4000;

const UPSTREAM_NAMES: [(Family, &str); 2] =
    [(Family::Ip, "flannel-ipv4"), (Family::Ip6, "flannel-ipv6")];
/// Follows upstream's name in the tables of a second daemon, before the name of its device.
const OF_DEVICE: &str = "-flannel";

/// The tables of one daemon, by family and name.
pub(crate) type TableNames = [(Family, String); 2];

/// Upstream's names.
pub(crate) fn names() -> TableNames {
    UPSTREAM_NAMES.map(|(family, name)| (family, name.to_owned()))
}

/// Names for a second daemon of a host, by its device: `flannel-ipv4-flannel.7`.
pub(crate) fn names_for(device: &str) -> TableNames {
    UPSTREAM_NAMES.map(|(family, name)| (family, format!("{name}-{device}")))
}

/// True if a daemon of this host makes such a table.
pub(crate) fn is_table(family: Family, name: &str) -> bool {
    UPSTREAM_NAMES.iter().any(|(own_family, own)| {
        let rest = name.strip_prefix(own).filter(|_| family == *own_family);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(OF_DEVICE))
    })
}

/// The tables of both families; a table of a family that the network does not have is empty, as
/// upstream's is.
pub(crate) fn tables(
    names: &TableNames,
    config: &NetworkConfig,
    own: &Lease,
    settings: RuleSettings,
) -> Vec<Table> {
    let nets = nets_of(config, own);
    let table = |((family, name), nets): (&(Family, String), Option<Nets>)| Table {
        family: *family,
        name: name.clone(),
        dormant: false,
        comment: Some(format!("rules for {name}")),
        chains: nets.map_or(Vec::new(), |nets| chains(*family, nets, settings)),
    };
    names.iter().zip(nets).map(table).collect()
}

fn chains(family: Family, nets: Nets, settings: RuleSettings) -> Vec<Chain> {
    let rule = |statements: &[Statement]| Rule::new(family, statements);
    let masquerade = settings.masquerade.then(|| Chain {
        name: "postrtg".to_owned(),
        comment: Some("chain to manage traffic masquerading by flannel".to_owned()),
        base: Some(base(ChainType::Nat, Hook::Postrouting, 100)),
        rules: masquerade_rules(family, nets, settings.fully_random),
    });
    let forward = settings.forward.then(|| Chain {
        name: "forward".to_owned(),
        comment: Some("chain to accept flannel traffic".to_owned()),
        base: Some(base(ChainType::Filter, Hook::Forward, 0)),
        rules: vec![
            rule(&[from(nets.network), Statement::Accept]),
            rule(&[to(nets.network), Statement::Accept]),
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

/// The fourth rule has `!=` the subnet where upstream's iptables rule has `!` the network, so the
/// last one never matches. Upstream ships and checks this text and other tools look for it: it
/// stays.
fn masquerade_rules(family: Family, nets: Nets, fully_random: bool) -> Vec<Rule> {
    let rule = |statements: &[Statement]| Rule::new(family, statements);
    let Nets {
        network,
        subnet,
        multicast,
    } = nets;
    let masquerade = || Statement::Masquerade { fully_random };
    let mark = Statement::Mark {
        value: KUBE_MASQ_MARK,
        mask: u32::MAX,
    };
    vec![
        rule(&[mark, Statement::Return]),
        rule(&[from(subnet), to(network), Statement::Return]),
        rule(&[from(network), to(subnet), Statement::Return]),
        rule(&[not_from(subnet), to(network), Statement::Return]),
        rule(&[from(network), not_to(multicast), masquerade()]),
        rule(&[not_from(network), to(network), masquerade()]),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_any_daemon_are_recognised() {
        for (family, name) in names().into_iter().chain(names_for("flannel.7")) {
            assert!(is_table(family, &name), "{name}");
        }
        for name in [
            "flannel-ipv40",
            "flannel-ipv4-mine",
            "flannel",
            "flannel-ipv6",
        ] {
            assert!(!is_table(Family::Ip, name), "{name}");
        }
    }
}
