//! iptables chains that no other program removes: those of Go flanneld, once our nftables rules
//! replace them, and those that portmap shares among pods, at `flanneld cleanup`. No process starts
//! where the kernel cannot have such a chain. Without iptables, as in the image, those of its
//! nftables variant are removed by netlink.

use packet_filter::{Error, Family, Installed, Iptables, Nft, Saved, Transaction};
use shared_names::portmap;

/// How often the removal by netlink is planned at most while other programs change the ruleset.
const ATTEMPTS: u32 = 20;

/// Chains of one table that are removed together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chains {
    /// for log lines and reports
    pub(crate) description: &'static str,
    table: &'static str,
    names: &'static [&'static str],
    /// the chain that has rules for each pod that still needs the chains
    pod_chain: Option<&'static str>,
}

/// Go flanneld's masquerade and forward rules (upstream: pkg/trafficmngr/iptables).
pub(crate) const GO_FLANNELD: [Chains; 2] = [
    Chains {
        description: "iptables masquerade rules of an earlier flanneld",
        table: "nat",
        names: &["FLANNEL-POSTRTG"],
        pod_chain: None,
    },
    Chains {
        description: "iptables forward rules of an earlier flanneld",
        table: "filter",
        names: &["FLANNEL-FWD"],
        pod_chain: None,
    },
];

/// Portmap's host ports.
pub(crate) const PORTMAP: Chains = Chains {
    description: "portmap's iptables chains",
    table: portmap::IPTABLES_TABLE,
    names: &portmap::SHARED_CHAINS,
    pod_chain: Some(portmap::DNAT_CHAIN),
};

/// The result of [`Chains::remove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Absent,
    /// the chains and the jumps to them are removed
    Removed,
    /// that many rules of pods need the chains
    InUse(usize),
}

impl Chains {
    /// Removes the chains in one change, unless a pod needs them.
    pub(crate) fn remove(&self, ipv6: bool, nft: &mut Nft) -> Result<Removal, Error> {
        let iptables = Iptables::of(ipv6);
        let mut possible = false;
        for name in self.names {
            possible = possible || iptables.may_have_chain(Some(nft), self.table, name)?;
        }
        if !possible {
            return Ok(Removal::Absent);
        }
        if !iptables.is_installed() {
            let family = if ipv6 { Family::Ip6 } else { Family::Ip };
            return self.remove_by_netlink(family, nft);
        }
        let saved = iptables.save(self.table)?;
        let pod_rules = self.pod_rules(&saved);
        if pod_rules > 0 {
            return Ok(Removal::InUse(pod_rules));
        }
        let lines = saved.removal(|chain| self.names.contains(&chain));
        if lines.is_empty() {
            return Ok(Removal::Absent);
        }
        iptables.restore(self.table, &lines)?;
        Ok(Removal::Removed)
    }

    /// The same for the nftables variant.
    fn remove_by_netlink(&self, family: Family, nft: &mut Nft) -> Result<Removal, Error> {
        let mut attempts = 1;
        loop {
            let generation = nft.generation()?;
            let mut present = nft.chains(family, self.table)?;
            present.retain(|chain| self.names.contains(&chain.name.as_str()));
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
            PORTMAP.pod_rules(&saved("-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-1")),
            1
        );
        assert_eq!(
            PORTMAP.pod_rules(&saved("-A CNI-HOSTPORT-MASQ -j MASQUERADE")),
            0
        );
        assert_eq!(
            GO_FLANNELD[0].pod_rules(&saved("-A FLANNEL-POSTRTG -j RETURN")),
            0
        );
    }
}
