//! iptables chains that no other program removes: those of Go flanneld, once our nftables rules
//! replace them, and those that portmap shares among pods, at `flanneld cleanup`. No process starts
//! where the kernel cannot have such a chain.

use packet_filter::{Error, Iptables, Nft, Saved};
use shared_names::portmap;

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
        let mut names = self.names.iter();
        let possible = names.any(|name| iptables.may_have_chain(Some(nft), self.table, name));
        if !possible || !iptables.is_installed() {
            return Ok(Removal::Absent);
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

    fn pod_rules(&self, saved: &Saved) -> usize {
        let Some(chain) = self.pod_chain else {
            return 0;
        };
        let prefix = format!("-A {chain} ");
        let rules = saved.rules.iter();
        rules.filter(|rule| rule.starts_with(&prefix)).count()
    }
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
