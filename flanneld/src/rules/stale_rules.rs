//! Rules of this daemon that are elsewhere than where the configuration has them: in the other
//! packet filter, in the other flavour of iptables, or under another name, by the device of an
//! earlier configuration. They go once the present ones are in place.

use super::{
    PacketFilter, RuleNames, RulePlace, nftables::TableNames, stale_chains, stale_chains::Removal,
};
use packet_filter::{Flavour, Nft, Transaction};
use tracing::{info, warn};

/// What is known of them.
#[derive(Debug, Default)]
pub(crate) struct StaleRules {
    /// While the rules are in this flavour of iptables, or in none, there are no others.
    gone_beside: Option<Option<Flavour>>,
    /// why the last attempt failed
    logged: Option<String>,
}

impl StaleRules {
    /// Removes them. What fails is tried again at the next call, and logged once. `in_use` is the
    /// flavour of iptables that the rules are in, `earlier` are names of earlier configurations.
    pub(crate) fn remove(
        &mut self,
        place: &RulePlace,
        earlier: &[RuleNames],
        in_use: Option<Flavour>,
        mut nft: Option<&mut Nft>,
    ) {
        if self.gone_beside == Some(in_use) {
            return;
        }
        let in_iptables = place.filter == PacketFilter::Iptables;
        let mut failed = remove_rules(&place.names, in_use, in_iptables, nft.as_deref_mut()).err();
        for names in earlier.iter().filter(|names| **names != place.names) {
            let removed = remove_rules(names, None, true, nft.as_deref_mut());
            failed = removed.err().or(failed);
        }
        self.gone_beside = failed.is_none().then_some(in_use);
        if let Some(error) = failed.as_ref().filter(|_| failed != self.logged) {
            warn!("{error}; trying again");
        }
        self.logged = failed;
    }
}

/// Removes the chains with these names but those of the flavour in use, and the tables if asked to.
/// The error is that of the last removal that fails.
fn remove_rules(
    names: &RuleNames,
    in_use: Option<Flavour>,
    tables: bool,
    mut nft: Option<&mut Nft>,
) -> Result<(), String> {
    let mut result = Ok(());
    for chains in stale_chains::of_daemon(&names.chains) {
        for ipv6 in [false, true] {
            match chains.remove(ipv6, nft.as_deref_mut(), in_use) {
                Ok(Removal::Removed) => info!("removed the {}", chains.description),
                Ok(Removal::Absent | Removal::InUse(_)) => {}
                Err(error) => {
                    result = Err(format!("cannot remove the {}: {error}", chains.description));
                }
            }
        }
    }
    if let Some(nft) = nft.filter(|_| tables)
        && let Err(error) = remove_tables(&names.tables, nft)
    {
        result = Err(error.to_string());
    }
    result
}

fn remove_tables(names: &TableNames, nft: &mut Nft) -> Result<(), packet_filter::Error> {
    let present = nft.tables()?;
    for (family, name) in names.iter().filter(|table| present.contains(table)) {
        let mut transaction = Transaction::new();
        transaction.delete_table(*family, name);
        match nft.commit(&transaction) {
            Err(error) if error.is_absent() => {}
            result => {
                result?;
                let family = family.as_str();
                info!("removed the nftables table {family} {name} of an earlier flanneld");
            }
        }
    }
    Ok(())
}
