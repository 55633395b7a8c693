//! The mappings of all containers, for a caller that no runtime started: those that lead nowhere
//! can be removed.

use crate::{iptables, nftables::Nftables, remove};
use cni_conf::Error;
use packet_filter::Nft;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The name of what an owner has, and the addresses that it leads to.
pub(crate) type Owners = BTreeMap<String, BTreeSet<IpAddr>>;

/// The owners of mappings as they were at one moment: comments of nftables, and chains of iptables.
#[derive(Debug, Default)]
pub struct Leftover {
    comments: Owners,
    chains: Owners,
}

impl Leftover {
    /// Reads the mappings of all owners.
    pub fn read() -> Result<Leftover, Error> {
        let failed = |error: packet_filter::Error| Error::internal(error);
        let mut comments = Owners::new();
        let nft = Nft::open_if_supported().map_err(failed)?;
        let mut nftables = nft.map(|nft| Nftables { nft });
        if let Some(nftables) = &mut nftables {
            comments = nftables.owners().map_err(failed)?;
        }
        let chains = iptables::owners(nftables.map(|nftables| nftables.nft).as_mut())?;
        Ok(Leftover { comments, chains })
    }

    /// Leaves those that lead to an existing address. The addresses must have been read later than
    /// the mappings.
    #[must_use]
    pub fn without(self, exists: impl Fn(IpAddr) -> bool) -> Leftover {
        let gone = |owners: Owners| {
            let is_gone = |addresses: &BTreeSet<IpAddr>| {
                !addresses.is_empty() && !addresses.iter().any(|ip| exists(*ip))
            };
            let gone = owners.into_iter();
            gone.filter(|(_, addresses)| is_gone(addresses)).collect()
        };
        Leftover {
            comments: gone(self.comments),
            chains: gone(self.chains),
        }
    }

    /// The addresses that these mappings lead to.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let owners = self.comments.values().chain(self.chains.values());
        owners.flatten().copied().collect()
    }

    /// Removes the mappings of these owners.
    pub fn remove(&self) -> Result<(), Error> {
        if self.comments.is_empty() && self.chains.is_empty() {
            return Ok(());
        }
        Ok(remove(
            |nftables| nftables.remove_owners(&self.comments),
            |nft| iptables::remove_owners(nft, &self.chains),
        )?)
    }
}
