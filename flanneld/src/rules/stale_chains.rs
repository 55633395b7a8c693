//! iptables chains that no other program removes: this daemon's and Go flanneld's, once the rules
//! are in the other packet filter or flavour, and those that portmap shares among pods, at
//! `flanneld cleanup`. No process starts where the kernel cannot have such a chain: those of the
//! nftables flavour are removed by netlink, so that they need no iptables.

use super::{
    host_iptables::family,
    iptables::{self, ChainNames},
};
use packet_filter::{Error, Family, Flavour, Installed, Nft, Programs, Saved, Transaction};
use shared_names::portmap;

/// How often the removal by netlink is planned at most while other programs change the ruleset.
const ATTEMPTS: u32 = 20;

/// Chains of one table that are removed together.
#[derive(Debug, Clone)]
pub(crate) struct Chains {
    /// for log lines and reports
    pub(crate) description: &'static str,
    table: &'static str,
    names: Names,
    /// the chain that has rules for each pod that still needs the chains
    pod_chain: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Names {
    /// of one daemon
    OfDaemon(ChainNames),
    /// of every daemon of this host
    OfAnyDaemon,
    Listed(&'static [&'static str]),
}

/// The result of [`Chains::remove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Absent,
    /// the chains and the jumps to them are removed
    Removed,
    /// that many rules of pods need the chains
    InUse(usize),
}

/// The masquerade and forward rules of one daemon; Go flanneld's have upstream's names.
pub(crate) fn of_daemon(names: &ChainNames) -> [Chains; 2] {
    both(Names::OfDaemon(names.clone()))
}

/// Those of every daemon of this host.
pub(crate) fn of_any_daemon() -> [Chains; 2] {
    both(Names::OfAnyDaemon)
}

fn both(names: Names) -> [Chains; 2] {
    [
        ("iptables masquerade rules of an earlier flanneld", "nat"),
        ("iptables forward rules of an earlier flanneld", "filter"),
    ]
    .map(|(description, table)| Chains {
        description,
        table,
        names: names.clone(),
        pod_chain: None,
    })
}

/// Portmap's host ports.
pub(crate) fn of_portmap() -> Chains {
    Chains {
        description: "portmap's iptables chains",
        table: portmap::IPTABLES_TABLE,
        names: Names::Listed(&portmap::SHARED_CHAINS),
        pod_chain: Some(portmap::DNAT_CHAIN),
    }
}

impl Chains {
    /// Removes the chains in one change a flavour, unless a pod needs them; not those of the
    /// flavour that the daemon's rules are of.
    pub(crate) fn remove(
        &self,
        ipv6: bool,
        nft: Option<&mut Nft>,
        in_use: Option<Flavour>,
    ) -> Result<Removal, Error> {
        let of_nft = match nft {
            Some(nft) if in_use != Some(Flavour::Nft) => self.remove_by_netlink(family(ipv6), nft),
            Some(_) | None => Ok(Removal::Absent),
        };
        let of_legacy = match in_use {
            Some(Flavour::Legacy) => Ok(Removal::Absent),
            Some(Flavour::Nft) | None => self.remove_legacy(ipv6),
        };
        Ok(match (of_nft?, of_legacy?) {
            (Removal::InUse(one), Removal::InUse(other)) => Removal::InUse(one + other),
            (in_use @ Removal::InUse(_), _) | (_, in_use @ Removal::InUse(_)) => in_use,
            (Removal::Removed, _) | (_, Removal::Removed) => Removal::Removed,
            (Removal::Absent, Removal::Absent) => Removal::Absent,
        })
    }

    /// Without programs of the legacy flavour its chains cannot be seen: they count as absent.
    fn remove_legacy(&self, ipv6: bool) -> Result<Removal, Error> {
        let tables = packet_filter::Iptables::of(ipv6).legacy_tables()?;
        if !tables.iter().any(|table| table == self.table) {
            return Ok(Removal::Absent);
        }
        let Some(programs) = Programs::of(Flavour::Legacy)? else {
            return Ok(Removal::Absent);
        };
        let iptables = programs.family(ipv6);
        let saved = iptables.save(self.table)?;
        let pod_rules = self.pod_rules(&saved);
        if pod_rules > 0 {
            return Ok(Removal::InUse(pod_rules));
        }
        let lines = saved.removal(|chain| self.is_one(chain));
        if lines.is_empty() {
            return Ok(Removal::Absent);
        }
        iptables.restore(self.table, &lines)?;
        Ok(Removal::Removed)
    }

    fn remove_by_netlink(&self, family: Family, nft: &mut Nft) -> Result<Removal, Error> {
        let mut attempts = 1;
        loop {
            let generation = nft.generation()?;
            let mut present = match nft.chains(family, self.table) {
                Err(error) if error.is_unsupported() => return Ok(Removal::Absent),
                chains => chains?,
            };
            present.retain(|chain| self.is_one(&chain.name));
            if present.is_empty() {
                return Ok(Removal::Absent);
            }
            let rules = nft.rules(family, self.table, None)?;
            let of_pods = |rule: &&Installed| Some(rule.chain.as_str()) == self.pod_chain;
            let pod_rules = rules.iter().filter(of_pods).count();
            if pod_rules > 0 {
                return Ok(Removal::InUse(pod_rules));
            }
            let names: Vec<_> = present.iter().map(|chain| chain.name.as_str()).collect();
            let mut transaction = removal(family, self.table, &names, &rules);
            match nft.commit(transaction.only_if(generation)) {
                Err(error) if error.is_outdated() && attempts < ATTEMPTS => attempts += 1,
                result => return result.map(|()| Removal::Removed),
            }
        }
    }

    fn is_one(&self, chain: &str) -> bool {
        match &self.names {
            Names::OfDaemon(names) => names.contains(self.table, chain),
            Names::OfAnyDaemon => iptables::is_chain(self.table, chain),
            Names::Listed(names) => names.contains(&chain),
        }
    }

    fn pod_rules(&self, saved: &Saved) -> usize {
        let Some(chain) = self.pod_chain else {
            return 0;
        };
        let prefix = format!("-A {chain} ");
        let rules = saved.rules.iter();
        rules.filter(|rule| rule.starts_with(&prefix)).count()
    }
}

/// Removes chains, with every rule of other chains that jumps to them.
fn removal(family: Family, table: &str, chains: &[&str], rules: &[Installed]) -> Transaction {
    let mut transaction = Transaction::new();
    let gone = |name: &str| chains.contains(&name);
    for rule in rules {
        if rule.rule.jump().is_some_and(gone) && !gone(&rule.chain) {
            transaction.delete_rule(family, table, &rule.chain, rule.handle);
        }
    }
    for chain in chains {
        transaction.flush_chain(family, table, chain);
    }
    for chain in chains {
        transaction.delete_chain(family, table, chain);
    }
    transaction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_the_pod_chain_keep_the_chains() {
        let saved = |rule: &str| Saved {
            chains: vec!["CNI-HOSTPORT-DNAT".to_owned()],
            rules: vec![rule.to_owned()],
        };
        assert_eq!(
            of_portmap().pod_rules(&saved("-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-1")),
            1
        );
        assert_eq!(
            of_portmap().pod_rules(&saved("-A CNI-HOSTPORT-MASQ -j MASQUERADE")),
            0
        );
        assert_eq!(
            of_any_daemon()[0].pod_rules(&saved("-A FLANNEL-POSTRTG -j RETURN")),
            0
        );
    }
}
