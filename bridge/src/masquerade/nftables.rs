//! Masquerade by nftables: one table for all pods of all networks, and a rule for each address.
//! Names and comments are upstream's, so that either implementation cleans up after the other.

use super::{READ, REMOVE, SET_UP};
use crate::{Error, error::Context, filter::chain_rules, names};
use cni_conf::IpConfig;
use go_compat::cidr;
use ipnetwork::IpNetwork;
use packet_filter::{
    BaseChain, Chain, ChainType, Family, Hook, Installed, Nft, Rule, Statement, Transaction,
};
use plugin::Attachment;
use shared_names::bridge::NFT_TABLE;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const CHECKS: &str = "masq_checks";
const CHECKS_COMMENT: &str =
    "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
const POSTROUTING: &str = "postrouting";
/// NF_IP_PRI_NAT_SRC (linux/netfilter_ipv4.h), `srcnat`.
const PRIORITY: i32 = 100;

pub(super) fn add(owner: &Attachment, ips: &[IpConfig]) -> Result<(), Error> {
    let mut nft = Nft::open().context(SET_UP)?;
    let declare_base = !is_whole(&rules(&mut nft, POSTROUTING)?);
    match nft.commit(&addition(owner, ips, declare_base)) {
        // the base chain is whole, but the chain that it goes to is absent
        Err(error) if error.is_absent() => nft.commit(&addition(owner, ips, true)).context(SET_UP),
        other => other.context(SET_UP),
    }
}

pub(super) fn is_complete(owner: &Attachment, ips: &[IpConfig]) -> Result<bool, Error> {
    let mut nft = Nft::open().context(READ)?;
    if !is_whole(&rules(&mut nft, POSTROUTING)?) {
        return Ok(false);
    }
    let present = rules(&mut nft, CHECKS)?;
    Ok(ips.iter().all(|ip| {
        let wanted = masquerade(owner, ip.address);
        present.iter().any(|installed| installed.rule == wanted)
    }))
}

pub(crate) fn remove(nft: &mut Nft, owner: &Attachment) -> Result<(), Error> {
    let prefix = names::nft_prefix(owner);
    remove_rules(nft, |comment| comment.starts_with(&prefix))
}

pub(super) fn retain(nft: &mut Nft, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let network = names::nft_network_prefix(network);
    let valid: Vec<_> = valid.iter().map(names::nft_prefix).collect();
    remove_rules(nft, |comment| {
        comment.starts_with(&network) && !valid.iter().any(|owner| comment.starts_with(owner))
    })
}

/// Removes the pods' rules whose comment satisfies the predicate.
fn remove_rules(nft: &mut Nft, predicate: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut transaction = Transaction::new();
    for installed in rules(nft, CHECKS)? {
        if installed.rule.comment.as_deref().is_some_and(&predicate) {
            transaction.delete_rule(Family::Inet, NFT_TABLE, CHECKS, installed.handle);
        }
    }
    nft.commit(&transaction).context(REMOVE)
}

fn addition(owner: &Attachment, ips: &[IpConfig], declare_base: bool) -> Transaction {
    let mut transaction = Transaction::new();
    if declare_base {
        declare(&mut transaction);
    }
    for ip in ips {
        let rule = masquerade(owner, ip.address);
        transaction.append(Family::Inet, NFT_TABLE, CHECKS, &rule);
    }
    transaction
}

/// The table, its chains and the rules that lead to the pods' rules.
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
    let checks = chain(CHECKS, Some(CHECKS_COMMENT), None);
    let postrouting = chain(POSTROUTING, None, Some(base));
    transaction.add_table(Family::Inet, NFT_TABLE, Some(TABLE_COMMENT));
    transaction.add_chain(Family::Inet, NFT_TABLE, &checks);
    transaction.add_chain(Family::Inet, NFT_TABLE, &postrouting);
    transaction.flush_chain(Family::Inet, NFT_TABLE, POSTROUTING);
    for rule in base_rules() {
        transaction.append(Family::Inet, NFT_TABLE, POSTROUTING, &rule);
    }
}

fn is_whole(present: &[Installed]) -> bool {
    present
        .iter()
        .map(|installed| &installed.rule)
        .eq(&base_rules())
}

/// Multicast is never masqueraded.
fn base_rules() -> Vec<Rule> {
    let multicast = [
        IpNetwork::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
        IpNetwork::new(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    ];
    let rule = |statements: &[Statement]| Rule::new(Family::Inet, statements);
    let returns = multicast.into_iter().flatten().map(|net| {
        let negated = false;
        rule(&[Statement::Daddr { net, negated }, Statement::Return])
    });
    let goto = rule(&[Statement::Goto(CHECKS.to_owned())]);
    returns.chain([goto]).collect()
}

/// `ip saddr ADDRESS ip daddr != SUBNET masquerade comment "..."`
fn masquerade(owner: &Attachment, address: IpNetwork) -> Rule {
    let statements = [
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
    ];
    Rule::new(Family::Inet, &statements).with_comment(names::nft_comment(owner))
}

fn rules(nft: &mut Nft, chain: &str) -> Result<Vec<Installed>, Error> {
    chain_rules(nft, Family::Inet, NFT_TABLE, chain)
}
