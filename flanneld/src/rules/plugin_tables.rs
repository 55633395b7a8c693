//! The nftables tables that the CNI plugins share among all pods of a node. The last pod's DEL
//! empties them; only `flanneld cleanup` deletes them.

use packet_filter::{Error, Family, Nft};
use shared_names::{bridge, portmap};

/// A plugin's table.
#[derive(Debug)]
pub(crate) struct PluginTable {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    /// sets and maps that hold an element for each pod
    pod_sets: &'static [&'static str],
}

/// Portmap's tables and that of bridge's masquerade.
pub(crate) const ALL: [PluginTable; 3] = [
    PluginTable {
        family: Family::Ip,
        name: portmap::NFT_TABLE,
        pod_sets: &portmap::POD_SETS,
    },
    PluginTable {
        family: Family::Ip6,
        name: portmap::NFT_TABLE,
        pod_sets: &portmap::POD_SETS,
    },
    PluginTable {
        family: Family::Inet,
        name: bridge::NFT_TABLE,
        pod_sets: &[],
    },
];

impl PluginTable {
    /// How many rules and elements of pods the table has. A pod's rule has a comment that names the
    /// pod; a shared rule has none.
    pub(crate) fn pod_entries(&self, nft: &mut Nft) -> Result<usize, Error> {
        let rules = nft.rules(self.family, self.name, None)?;
        let mut entries = rules
            .iter()
            .filter(|installed| installed.rule.comment.is_some())
            .count();
        for set in self.pod_sets {
            entries += nft.element_count(self.family, self.name, set)?;
        }
        Ok(entries)
    }
}
