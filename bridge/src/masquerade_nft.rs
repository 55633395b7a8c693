//! Masquerade by nftables: one table for all pods of all networks, a rule per address. Names and comments are upstream's, so
//! that either implementation cleans up after the other.
use crate::{
    Error,
    filter::{chain_rules, failed},
    names::{Owner, nft_network_prefix},
};
use cni_conf::IpConfig;
use go_compat::cidr;
use ipnetwork::IpNetwork;
use packet_filter::{
    BaseChain, Chain, ChainType, Family, Hook, Nft, Rule, Statement, Transaction, nft::Installed,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TABLE: &str = "cni_plugins_masquerade";
const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const CHECKS: &str = "masq_checks";
const CHECKS_COMMENT: &str =
    "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
const POSTROUTING: &str = "postrouting";
/// `srcnat`
const PRIORITY: i32 = 100;

/// Masquerades what these addresses send out of their subnets.
pub fn add(owner: &Owner, ips: &[IpConfig]) -> Result<(), Error> {
    let failed = failed("failed to set up the masquerade rules");
    let mut nft = Nft::open().map_err(failed)?;
    let mut transaction = Transaction::new();
    let present = rules(&mut nft, POSTROUTING)?;
    if !is_whole(&present) {
        declare(&mut transaction);
    }
    append(&mut transaction, owner, ips);
    match nft.commit(&transaction) {
        // the base chain was whole, but the chain it goes to is gone
        Err(error) if error.is_absent() => {}
        other => return other.map_err(failed),
    }
    let mut transaction = Transaction::new();
    declare(&mut transaction);
    append(&mut transaction, owner, ips);
    nft.commit(&transaction).map_err(failed)
}

/// The rules of these addresses and the base chain that leads to them are in place.
pub fn is_complete(owner: &Owner, ips: &[IpConfig]) -> Result<bool, Error> {
    let mut nft = Nft::open().map_err(failed("failed to read the masquerade rules"))?;
    if !is_whole(&rules(&mut nft, POSTROUTING)?) {
        return Ok(false);
    }
    let present = rules(&mut nft, CHECKS)?;
    Ok(ips.iter().all(|ip| {
        let wanted = masquerade(owner, ip.address);
        present.iter().any(|installed| installed.rule == wanted)
    }))
}

/// Removes the rules of one attachment.
pub fn remove(nft: &mut Nft, owner: &Owner) -> Result<(), Error> {
    let prefix = owner.nft_prefix();
    remove_rules(nft, |comment| comment.starts_with(&prefix))
}

/// Removes the rules of every attachment of the network that is not among those.
pub fn retain(nft: &mut Nft, network: &str, valid: &[Owner]) -> Result<(), Error> {
    let network = nft_network_prefix(network);
    let valid: Vec<_> = valid.iter().map(Owner::nft_prefix).collect();
    remove_rules(nft, |comment| {
        comment.starts_with(&network) && !valid.iter().any(|owner| comment.starts_with(owner))
    })
}

fn remove_rules(nft: &mut Nft, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut transaction = Transaction::new();
    for installed in rules(nft, CHECKS)? {
        if installed.rule.comment.as_deref().is_some_and(&gone) {
            transaction.delete_rule(Family::Inet, TABLE, CHECKS, installed.handle);
        }
    }
    nft.commit(&transaction)
        .map_err(failed("failed to remove the masquerade rules"))
}

/// The table, its chains and the rules that lead to the pods' own.
fn declare(transaction: &mut Transaction) {
    let chain = |name: &str, comment: Option<&str>, base| Chain {
        name: name.to_owned(),
        comment: comment.map(str::to_owned),
        base,
        rules: Vec::new(),
    };
    let base = BaseChain {
        chain_type: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: PRIORITY,
        accept: true,
    };
    transaction.add_table(Family::Inet, TABLE, Some(TABLE_COMMENT));
    transaction.add_chain(
        Family::Inet,
        TABLE,
        &chain(CHECKS, Some(CHECKS_COMMENT), None),
    );
    transaction.add_chain(Family::Inet, TABLE, &chain(POSTROUTING, None, Some(base)));
    transaction.flush_chain(Family::Inet, TABLE, POSTROUTING);
    for rule in base_rules() {
        transaction.append(Family::Inet, TABLE, POSTROUTING, &rule);
    }
}

fn append(transaction: &mut Transaction, owner: &Owner, ips: &[IpConfig]) {
    for ip in ips {
        transaction.append(Family::Inet, TABLE, CHECKS, &masquerade(owner, ip.address));
    }
}

fn is_whole(present: &[Installed]) -> bool {
    let wanted = base_rules();
    present.len() == wanted.len() && present.iter().map(|i| &i.rule).eq(&wanted)
}

/// Multicast is never masqueraded.
fn base_rules() -> Vec<Rule> {
    let multicast = [
        IpNetwork::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
        IpNetwork::new(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    ];
    let mut rules: Vec<Rule> = multicast
        .into_iter()
        .flatten()
        .map(|net| Rule {
            statements: vec![
                Statement::Daddr {
                    net,
                    negated: false,
                },
                Statement::Return,
            ],
            comment: None,
        })
        .collect();
    rules.push(Rule {
        statements: vec![Statement::Goto(CHECKS.to_owned())],
        comment: None,
    });
    rules
}

/// `ip saddr ADDRESS ip daddr != SUBNET masquerade comment "..."`
fn masquerade(owner: &Owner, address: IpNetwork) -> Rule {
    Rule {
        statements: vec![
            Statement::Saddr {
                net: cidr::host(address.ip()),
                negated: false,
            },
            Statement::Daddr {
                net: cidr::masked(address),
                negated: true,
            },
            Statement::Masquerade {
                fully_random: false,
            },
        ],
        comment: Some(owner.nft_comment()),
    }
}

fn rules(nft: &mut Nft, chain: &str) -> Result<Vec<Installed>, Error> {
    chain_rules(nft, Family::Inet, TABLE, chain)
}
