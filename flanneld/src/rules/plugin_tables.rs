//! The nftables tables that the CNI plugins share among all pods of a node. The last pod's DEL empties them; only
//! `flanneld cleanup` takes them away.
use packet_filter::{Error, Family, Nft};

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
