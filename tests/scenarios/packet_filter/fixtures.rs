//! Rules and tables of the scenarios.

use ipnetwork::IpNetwork;
use packet_filter::{BaseChain, Chain, ChainType, Family, Hook, Rule, Statement, Table};

pub(super) fn net(text: &str) -> IpNetwork {
    text.parse().expect("network")
}

pub(super) fn saddr(text: &str) -> Statement {
    Statement::Saddr {
        net: net(text),
        negated: false,
    }
}

pub(super) fn daddr(text: &str) -> Statement {
    Statement::Daddr {
        net: net(text),
        negated: false,
    }
}

pub(super) fn not(statement: Statement) -> Statement {
    match statement {
        Statement::Saddr { net, negated } => Statement::Saddr {
            net,
            negated: !negated,
        },
        Statement::Daddr { net, negated } => Statement::Daddr {
            net,
            negated: !negated,
        },
        other => panic!("{other:?} cannot be negated"),
    }
}

pub(super) fn rule<const N: usize>(family: Family, statements: [Statement; N]) -> Rule {
    Rule::new(family, &statements)
}

pub(super) fn base(chain_type: ChainType, hook: Hook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain {
        chain_type,
        hook,
        priority,
        accept: true,
    })
}

pub(super) fn chain(name: &str, base: Option<BaseChain>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        comment: None,
        base,
        rules,
    }
}

/// flanneld's table of a family.
pub(super) fn flannel(family: Family) -> Table {
    let (name, mine, cluster, multicast) = match family {
        Family::Ip => (
            "flannel-ipv4",
            "10.244.1.0/24",
            "10.244.0.0/16",
            "224.0.0.0/4",
        ),
        _ => (
            "flannel-ipv6",
            "fd00:10:244:1::/64",
            "fd00:10:244::/48",
            "ff00::/8",
        ),
    };
    let masquerade = || Statement::Masquerade { fully_random: true };
    let postrtg = vec![
        rule(
            family,
            [
                Statement::Mark {
                    value: 0x4000,
                    mask: u32::MAX,
                },
                Statement::Return,
            ],
        ),
        rule(family, [saddr(mine), daddr(cluster), Statement::Return]),
        rule(family, [saddr(cluster), daddr(mine), Statement::Return]),
        rule(
            family,
            [not(saddr(mine)), daddr(cluster), Statement::Return],
        ),
        rule(
            family,
            [saddr(cluster), not(daddr(multicast)), masquerade()],
        ),
        rule(family, [not(saddr(cluster)), daddr(cluster), masquerade()]),
    ];
    let forward = vec![
        rule(family, [saddr(cluster), Statement::Accept]),
        rule(family, [daddr(cluster), Statement::Accept]),
    ];
    let mut postrtg = chain(
        "postrtg",
        base(ChainType::Nat, Hook::Postrouting, 100),
        postrtg,
    );
    postrtg.comment = Some("chain to manage traffic masquerading by flannel".into());
    let mut forward = chain(
        "forward",
        base(ChainType::Filter, Hook::Forward, 0),
        forward,
    );
    forward.comment = Some("chain to accept flannel traffic".into());
    Table {
        family,
        name: name.into(),
        dormant: false,
        comment: Some(format!("rules for {name}")),
        chains: vec![postrtg, forward],
    }
}
