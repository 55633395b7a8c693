//! Chains in iptables that may go: those that Go flanneld made, once our nftables rules stand in their place, and those that
//! portmap shares among pods, at `flanneld cleanup`. No process is started where no such chain can be.
use packet_filter::{
    Error, Nft,
    iptables::{Iptables, Saved},
};

/// Chains of one table that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Chains {
    /// for people
    pub what: &'static str,
    table: &'static str,
    names: &'static [&'static str],
    /// a chain with a rule for each pod that still needs them
    pods: Option<&'static str>,
}

/// Go flanneld's masquerade and forward rules (upstream: pkg/trafficmngr/iptables).
pub const OF_GO_FLANNELD: [Chains; 2] = [
    Chains {
        what: "iptables masquerade rules of an earlier flanneld",
        table: "nat",
        names: &["FLANNEL-POSTRTG"],
        pods: None,
    },
    Chains {
        what: "iptables forward rules of an earlier flanneld",
        table: "filter",
        names: &["FLANNEL-FWD"],
        pods: None,
    },
];

/// portmap's host ports.
pub const OF_PORTMAP: Chains = Chains {
    what: "portmap's iptables chains",
    table: "nat",
    names: &[
        "CNI-HOSTPORT-DNAT",
        "CNI-HOSTPORT-SETMARK",
        "CNI-HOSTPORT-MASQ",
    ],
    pods: Some("CNI-HOSTPORT-DNAT"),
};

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// there were none
    Absent,
    /// they are gone, with the jumps to them
    Removed,
    /// that many pods still need them
    InUse(usize),
}

impl Chains {
    /// Takes them away in one change, unless a pod needs them.
    pub fn remove(&self, ipv6: bool, nft: &mut Nft) -> Result<Fate, Error> {
        let iptables = Iptables::of(ipv6);
        let possible = self
            .names
            .iter()
            .any(|name| iptables.may_have_chain(Some(nft), self.table, name));
        if !possible || !iptables.is_installed() {
            return Ok(Fate::Absent);
        }
        let saved = iptables.save(self.table)?;
        match self.in_use(&saved) {
            0 => {}
            pods => return Ok(Fate::InUse(pods)),
        }
        let lines = saved.removal(|chain| self.names.contains(&chain));
        if lines.is_empty() {
            return Ok(Fate::Absent);
        }
        iptables.restore(self.table, &lines).map(|()| Fate::Removed)
    }

    fn in_use(&self, saved: &Saved) -> usize {
        let Some(chain) = self.pods else { return 0 };
        let of_pods = format!("-A {chain} ");
        saved
            .rules
            .iter()
            .filter(|rule| rule.starts_with(&of_pods))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_s_rule_keeps_the_chains() {
        let saved = |rule: &str| Saved {
            chains: vec!["CNI-HOSTPORT-DNAT".to_owned()],
            rules: vec![rule.to_owned()],
        };
        assert_eq!(
            OF_PORTMAP.in_use(&saved("-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-1")),
            1
        );
        assert_eq!(
            OF_PORTMAP.in_use(&saved("-A CNI-HOSTPORT-MASQ -j MASQUERADE")),
            0
        );
        assert_eq!(
            OF_GO_FLANNELD[0].in_use(&saved("-A FLANNEL-POSTRTG -j RETURN")),
            0
        );
    }
}
