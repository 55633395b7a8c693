//! Rules of this daemon that are elsewhere than where the configuration has them: in the other
//! packet filter, or in the other flavour of iptables. They go once the present ones are in place.

use super::{PacketFilter, RulePlace, nftables::TableNames, stale_chains, stale_chains::Removal};
use packet_filter::{Flavour, Nft, Transaction};
use tracing::{info, warn};

/// What is known of them.
#[derive(Debug, Default)]
pub(crate) struct StaleRules {
    /// there are none, or none that this daemon has not removed
    gone: bool,
    /// why the last attempt failed
    logged: Option<String>,
}

impl StaleRules {
    /// Removes them. What fails is tried again at the next call, and logged once. `in_use` is the
    /// flavour of iptables that the rules are in.
    pub(crate) fn remove(
        &mut self,
        place: &RulePlace,
        in_use: Option<Flavour>,
        mut nft: Option<&mut Nft>,
    ) {
        if self.gone {
            return;
        }
        let mut failed = None;
        for chains in stale_chains::of_daemon(&place.names.chains) {
            for ipv6 in [false, true] {
                match chains.remove(ipv6, nft.as_deref_mut(), in_use) {
                    Ok(Removal::Removed) => info!("removed the {}", chains.description),
                    Ok(Removal::Absent | Removal::InUse(_)) => {}
                    Err(error) => {
                        failed = Some(format!("cannot remove the {}: {error}", chains.description));
                    }
                }
            }
        }
        if let (PacketFilter::Iptables, Some(nft)) = (place.filter, nft)
            && let Err(error) = remove_tables(&place.names.tables, nft)
        {
            failed = Some(error.to_string());
        }
        self.gone = failed.is_none();
        if let Some(error) = failed.as_ref().filter(|_| failed != self.logged) {
            warn!("{error}; trying again");
        }
        self.logged = failed;
    }
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
