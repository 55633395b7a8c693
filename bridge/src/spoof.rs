//! `macspoofchk`: drops frames from the pod whose source MAC is not the pod's. Tables, chains and
//! comments are upstream's: `bridge nat PREROUTING` jumps by interface to `cni-br-iface-ID-IF`, and
//! that to `cni-br-iface-ID-IF-mac`.

use crate::{Error, error::Context, filter::chain_rules, names};
use linux_net::Mac;
use nix::errno::Errno;
use packet_filter::{
    BaseChain, Chain, ChainType, Family, Hook, Installed, Nft, Rule, Statement, Transaction,
};
use plugin::Attachment;
use std::slice;

const TABLE: &str = "nat";
const BASE: &str = "PREROUTING";
/// NF_BR_PRI_NAT_DST_BRIDGED (linux/netfilter_bridge.h).
const PRIORITY: i32 = -300;
const COMMENT: &str = "macspoofchk-";

pub(crate) fn add(owner: &Attachment, host_veth: &str, mac: Mac) -> Result<(), Error> {
    let failed = "failed to set up the spoof check";
    let mut nft = Nft::open().context(failed)?;
    // to declare an existing base chain again costs an RCU grace period: only where it is absent
    match nft.commit(&setup(owner, host_veth, mac, false)) {
        Err(error) if error.is_absent() => nft
            .commit(&setup(owner, host_veth, mac, true))
            .context(failed),
        other => other.context(failed),
    }
}

fn setup(owner: &Attachment, host_veth: &str, mac: Mac, declare_base: bool) -> Transaction {
    let mut transaction = Transaction::new();
    if declare_base {
        transaction.add_table(Family::Bridge, TABLE, None);
        transaction.add_chain(Family::Bridge, TABLE, &base_chain());
    }
    for name in [names::spoof_chain(owner), names::spoof_mac_chain(owner)] {
        transaction.add_chain(Family::Bridge, TABLE, &regular_chain(&name));
        transaction.flush_chain(Family::Bridge, TABLE, &name);
    }
    for (chain, rule) in rules(owner, host_veth, mac) {
        transaction.append(Family::Bridge, TABLE, &chain, &rule);
    }
    transaction
}

/// The rules of one attachment, each with its chain.
fn rules(owner: &Attachment, host_veth: &str, mac: Mac) -> [(String, Rule); 4] {
    let rule = |statements: &[Statement]| {
        Rule::new(Family::Bridge, statements).with_comment(names::spoof_comment(owner))
    };
    let (chain, mac_chain) = (names::spoof_chain(owner), names::spoof_mac_chain(owner));
    [
        (
            BASE.to_owned(),
            rule(&[
                Statement::Iifname(host_veth.to_owned()),
                Statement::Jump(chain.clone()),
            ]),
        ),
        (chain, rule(&[Statement::Jump(mac_chain.clone())])),
        (
            mac_chain.clone(),
            rule(&[Statement::EtherSaddr(mac.0), Statement::Return]),
        ),
        (mac_chain, rule(&[Statement::Drop])),
    ]
}

fn base_chain() -> Chain {
    Chain {
        base: Some(BaseChain {
            chain_type: ChainType::Filter,
            hook: Hook::Prerouting,
            priority: PRIORITY,
            accept: true,
        }),
        ..regular_chain(BASE)
    }
}

fn regular_chain(name: &str) -> Chain {
    Chain {
        name: name.to_owned(),
        comment: None,
        base: None,
        rules: Vec::new(),
    }
}

/// CHECK: all rules of the attachment are installed.
pub(crate) fn is_complete(owner: &Attachment, host_veth: &str, mac: Mac) -> Result<bool, Error> {
    let mut nft = Nft::open().context("failed to read the spoof check")?;
    let comment = names::spoof_comment(owner);
    for chain in [
        BASE,
        &names::spoof_chain(owner),
        &names::spoof_mac_chain(owner),
    ] {
        let present = chain_rules(&mut nft, Family::Bridge, TABLE, chain)?;
        let present = present
            .into_iter()
            .map(|installed| installed.rule)
            .filter(|rule| rule.comment.as_deref() == Some(&comment));
        let wanted = rules(owner, host_veth, mac)
            .into_iter()
            .filter_map(|(name, rule)| (name == chain).then_some(rule));
        if !present.eq(wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the rules of one attachment, if there are any.
pub(crate) fn remove(nft: &mut Nft, owner: &Attachment) -> Result<(), Error> {
    let chain = names::spoof_chain(owner);
    let mut jumps = chain_rules(nft, Family::Bridge, TABLE, BASE)?;
    jumps.retain(|installed| installed.rule.jump() == Some(&chain));
    if jumps.is_empty() && chain_rules(nft, Family::Bridge, TABLE, &chain)?.is_empty() {
        return Ok(());
    }
    remove_chains(nft, &jumps, [&chain, &names::spoof_mac_chain(owner)])
}

/// The rules that jump to the chains of interfaces, for [`remove_orphans`].
pub(crate) fn installed(nft: &mut Nft) -> Result<Vec<Installed>, Error> {
    let mut jumps = chain_rules(nft, Family::Bridge, TABLE, BASE)?;
    jumps.retain(|jump| {
        let comment = jump.rule.comment.as_deref().unwrap_or_default();
        let chain = jump.rule.jump().unwrap_or_default();
        comment.starts_with(COMMENT) && chain.starts_with(names::SPOOF_CHAIN)
    });
    Ok(jumps)
}

/// GC: removes the rules of each interface that no longer exists, whichever network it was in.
/// `exists` must know every link that exists after `jumps` were read.
pub(crate) fn remove_orphans(
    nft: &mut Nft,
    jumps: &[Installed],
    exists: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    for jump in jumps {
        if let (Some(interface), Some(chain)) = (jump.rule.iifname(), jump.rule.jump())
            && !exists(interface)
        {
            let mac_chain = format!("{chain}-mac");
            remove_chains(nft, slice::from_ref(jump), [chain, &mac_chain])?;
        }
    }
    Ok(())
}

/// Deletes jumps and chains in one transaction, or one by one where one of them is absent.
fn remove_chains(nft: &mut Nft, jumps: &[Installed], chains: [&str; 2]) -> Result<(), Error> {
    if commit_removal(nft, jumps, &chains)? {
        return Ok(());
    }
    for jump in jumps {
        commit_removal(nft, slice::from_ref(jump), &[])?;
    }
    for chain in chains {
        commit_removal(nft, &[], &[chain])?;
    }
    Ok(())
}

/// False: a jump or a chain is absent, and nothing is deleted.
fn commit_removal(nft: &mut Nft, jumps: &[Installed], chains: &[&str]) -> Result<bool, Error> {
    let mut transaction = Transaction::new();
    for jump in jumps {
        transaction.delete_rule(Family::Bridge, TABLE, &jump.chain, jump.handle);
    }
    for chain in chains {
        transaction.flush_chain(Family::Bridge, TABLE, chain);
        transaction.delete_chain(Family::Bridge, TABLE, chain);
    }
    match nft.commit(&transaction) {
        Err(error) if error.is_absent() => Ok(false),
        // an ADD of the same attachment has jumps to the chains again, and they are its own
        Err(error) if jumps.is_empty() && error.errno() == Some(Errno::EBUSY) => Ok(false),
        other => other
            .map(|()| true)
            .context("failed to remove the spoof check"),
    }
}
