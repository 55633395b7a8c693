//! `macspoofchk`: what leaves the pod must bear the pod's MAC. Tables, chains and comments are upstream's:
//! `bridge nat PREROUTING` jumps by interface to `cni-br-iface-ID-IF`, and that to `cni-br-iface-ID-IF-mac`.
use crate::{
    Error,
    filter::{chain_rules, failed},
    names::{Owner, SPOOF_CHAIN},
};
use linux_net::Mac;
use packet_filter::{
    BaseChain, Chain, ChainType, Family, Hook, Nft, Rule, Statement, Transaction, nft::Installed,
};

const TABLE: &str = "nat";
const BASE: &str = "PREROUTING";
const COMMENT: &str = "macspoofchk-";

/// Puts the check in place.
pub fn add(owner: &Owner, host_veth: &str, mac: Mac) -> Result<(), Error> {
    let failed = failed("failed to set up the spoof check");
    let mut nft = Nft::open().map_err(failed)?;
    // declaring a base chain that is there again would cost a grace period of the kernel's
    match nft.commit(&setup(owner, host_veth, mac, false)) {
        Err(error) if error.is_absent() => nft
            .commit(&setup(owner, host_veth, mac, true))
            .map_err(failed),
        other => other.map_err(failed),
    }
}

fn setup(owner: &Owner, host_veth: &str, mac: Mac, declare_base: bool) -> Transaction {
    let mut transaction = Transaction::new();
    if declare_base {
        transaction.add_table(Family::Bridge, TABLE, None);
        transaction.add_chain(Family::Bridge, TABLE, &base_chain());
    }
    for name in [owner.spoof_chain(), owner.spoof_mac_chain()] {
        transaction.add_chain(Family::Bridge, TABLE, &regular_chain(&name));
        transaction.flush_chain(Family::Bridge, TABLE, &name);
    }
    for (chain, rule) in rules(owner, host_veth, mac) {
        transaction.append(Family::Bridge, TABLE, &chain, &rule);
    }
    transaction
}

/// All rules of one attachment, with the chains they stand in.
fn rules(owner: &Owner, host_veth: &str, mac: Mac) -> [(String, Rule); 4] {
    let rule = |statements: Vec<Statement>| Rule {
        statements,
        comment: Some(owner.spoof_comment()),
    };
    let (chain, mac_chain) = (owner.spoof_chain(), owner.spoof_mac_chain());
    [
        (
            BASE.to_owned(),
            rule(vec![
                Statement::Iifname(host_veth.to_owned()),
                Statement::Jump(chain.clone()),
            ]),
        ),
        (chain, rule(vec![Statement::Jump(mac_chain.clone())])),
        (
            mac_chain.clone(),
            rule(vec![Statement::EtherSaddr(mac.0), Statement::Return]),
        ),
        (mac_chain, rule(vec![Statement::Drop])),
    ]
}

fn base_chain() -> Chain {
    Chain {
        base: Some(BaseChain {
            chain_type: ChainType::Filter,
            hook: Hook::Prerouting,
            priority: -300,
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

/// Every rule of the check is in place.
pub fn is_complete(owner: &Owner, host_veth: &str, mac: Mac) -> Result<bool, Error> {
    let failed = failed("failed to read the spoof check");
    let mut nft = Nft::open().map_err(failed)?;
    for chain in [BASE, &owner.spoof_chain(), &owner.spoof_mac_chain()] {
        let present = chain_rules(&mut nft, Family::Bridge, TABLE, chain)?;
        let present: Vec<_> = present
            .into_iter()
            .map(|installed| installed.rule)
            .filter(|rule| rule.comment.as_deref() == Some(&owner.spoof_comment()))
            .collect();
        let wanted: Vec<_> = rules(owner, host_veth, mac)
            .into_iter()
            .filter(|(name, _)| name == chain)
            .map(|(_, rule)| rule)
            .collect();
        if present != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes the check of one attachment away, if there is any.
pub fn remove(nft: &mut Nft, owner: &Owner) -> Result<(), Error> {
    let chain = Statement::Jump(owner.spoof_chain());
    let mine = |rule: &Installed| rule.rule.statements.contains(&chain);
    let jumps: Vec<_> = chain_rules(nft, Family::Bridge, TABLE, BASE)?
        .into_iter()
        .filter(mine)
        .collect();
    let alone = jumps.is_empty()
        && chain_rules(nft, Family::Bridge, TABLE, &owner.spoof_chain())?.is_empty();
    if alone {
        return Ok(());
    }
    drop_check(nft, &jumps, &[owner.spoof_chain(), owner.spoof_mac_chain()])
}

/// Takes away every check of an interface that does not exist any more: whose pod it was, it is gone.
pub fn remove_orphans(nft: &mut Nft, exists: impl Fn(&str) -> bool) -> Result<(), Error> {
    for jump in chain_rules(nft, Family::Bridge, TABLE, BASE)? {
        let ours = jump
            .rule
            .comment
            .as_ref()
            .is_some_and(|comment| comment.starts_with(COMMENT));
        if let [Statement::Iifname(interface), Statement::Jump(chain)] =
            jump.rule.statements.as_slice()
            && ours
            && chain.starts_with(SPOOF_CHAIN)
            && !exists(interface)
        {
            let chains = [chain.clone(), format!("{chain}-mac")];
            drop_check(nft, std::slice::from_ref(&jump), &chains)?;
        }
    }
    Ok(())
}

/// At once; where a chain of them is missing already, one by one.
fn drop_check(nft: &mut Nft, jumps: &[Installed], chains: &[String]) -> Result<(), Error> {
    let mut whole = Transaction::new();
    let mut parts = Vec::new();
    for jump in jumps {
        let mut part = Transaction::new();
        for transaction in [&mut whole, &mut part] {
            transaction.delete_rule(Family::Bridge, TABLE, &jump.chain, jump.handle);
        }
        parts.push(part);
    }
    for chain in chains {
        let mut part = Transaction::new();
        for transaction in [&mut whole, &mut part] {
            transaction.flush_chain(Family::Bridge, TABLE, chain);
            transaction.delete_chain(Family::Bridge, TABLE, chain);
        }
        parts.push(part);
    }
    match nft.commit(&whole) {
        Err(error) if error.is_absent() => {}
        other => return other.map_err(failed("failed to remove the spoof check")),
    }
    for part in &parts {
        match nft.commit(part) {
            Err(error) if error.is_absent() => {}
            other => other.map_err(failed("failed to remove the spoof check"))?,
        }
    }
    Ok(())
}
