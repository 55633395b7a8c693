//! The nftables tables and iptables chains that the CNI plugins share among all pods of a node. The last pod's DEL empties
//! them; only `flanneld cleanup` takes them away.
use packet_filter::{
    Error, Family, Nft,
    iptables::{Iptables, Saved},
};

/// A plugin's table.
#[derive(Debug)]
pub struct PluginTable {
    /// family
    pub family: Family,
    /// name
    pub name: &'static str,
    /// sets and maps that hold an element for each pod
    sets: &'static [&'static str],
}

const HOST_PORTS: &[&str] = &[
    "hostports",
    "hostip_hostports",
    "masquerade_pairs",
    "masquerade_all",
];

/// portmap's, of either family, and that of bridge's masquerade.
pub const ALL: [PluginTable; 3] = [
    PluginTable {
        family: Family::Ip,
        name: "cni_hostport",
        sets: HOST_PORTS,
    },
    PluginTable {
        family: Family::Ip6,
        name: "cni_hostport",
        sets: HOST_PORTS,
    },
    PluginTable {
        family: Family::Inet,
        name: "cni_plugins_masquerade",
        sets: &[],
    },
];

impl PluginTable {
    /// How many rules and elements of pods are in it. A rule of a pod has a comment that names the pod; a rule of all has none.
    pub fn pods(&self, nft: &mut Nft) -> Result<usize, Error> {
        let rules = nft.rules(self.family, self.name, None)?;
        let mut pods = rules
            .iter()
            .filter(|installed| installed.rule.comment.is_some())
            .count();
        for set in self.sets {
            pods += nft.element_count(self.family, self.name, set)?;
        }
        Ok(pods)
    }
}

/// portmap's chains in iptables' nat table; the first holds a rule for each pod.
const HOST_PORT_CHAINS: [&str; 3] = [
    "CNI-HOSTPORT-DNAT",
    "CNI-HOSTPORT-SETMARK",
    "CNI-HOSTPORT-MASQ",
];
const NAT: &str = "nat";

/// What became of portmap's shared iptables chains of one family.
#[derive(Debug, PartialEq, Eq)]
pub enum Chains {
    /// there were none
    Absent,
    /// they are gone
    Removed,
    /// that many pods still have host ports
    InUse(usize),
}

/// Takes them away if no pod has a host port.
pub fn remove_host_port_chains(ipv6: bool, nft: &mut Nft) -> Result<Chains, Error> {
    let iptables = Iptables::of(ipv6);
    if !iptables.may_have_chain(Some(nft), NAT, HOST_PORT_CHAINS[0]) || !iptables.is_installed() {
        return Ok(Chains::Absent);
    }
    let (pods, lines) = removal(&iptables.save(NAT)?);
    if pods > 0 {
        return Ok(Chains::InUse(pods));
    }
    if lines.is_empty() {
        return Ok(Chains::Absent);
    }
    iptables.restore(NAT, &lines).map(|()| Chains::Removed)
}

/// How many pods have host ports, and the changes that take the chains away: first the jumps to them, then what is in them.
fn removal(saved: &Saved) -> (usize, Vec<String>) {
    let of_pods = format!("-A {} ", HOST_PORT_CHAINS[0]);
    let pods = saved
        .rules
        .iter()
        .filter(|rule| rule.starts_with(&of_pods))
        .count();
    let present: Vec<_> = HOST_PORT_CHAINS
        .into_iter()
        .filter(|chain| saved.chains.iter().any(|name| name == chain))
        .collect();
    let jumps = |rule: &&String| {
        present
            .iter()
            .any(|chain| rule.ends_with(&format!("-j {chain}")))
    };
    let mut lines: Vec<String> = saved
        .rules
        .iter()
        .filter(jumps)
        .map(|rule| rule.replacen("-A", "-D", 1))
        .collect();
    lines.extend(present.iter().map(|chain| format!("-F {chain}")));
    lines.extend(present.iter().map(|chain| format!("-X {chain}")));
    (pods, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(chains: &[&str], rules: &[&str]) -> Saved {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Saved {
            chains: owned(chains),
            rules: owned(rules),
        }
    }

    #[test]
    fn jumps_go_before_the_chains_they_lead_to() {
        let mut nat = saved(
            &["PREROUTING", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ"],
            &[
                "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
                "-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
                "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
            ],
        );
        let wanted = [
            "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "-F CNI-HOSTPORT-DNAT",
            "-F CNI-HOSTPORT-MASQ",
            "-X CNI-HOSTPORT-DNAT",
            "-X CNI-HOSTPORT-MASQ",
        ];
        assert_eq!(removal(&nat), (0, wanted.map(str::to_owned).to_vec()));
        nat.rules
            .push("-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-1".to_owned());
        assert_eq!(removal(&nat).0, 1);
        assert_eq!(removal(&saved(&["PREROUTING"], &[])), (0, vec![]));
    }
}
