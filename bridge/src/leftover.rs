//! The masquerade chains of all containers, for a caller that no runtime started: upstream's DEL
//! does not find those of interfaces other than `eth0`.

use crate::masquerade::{Sources, remove_sources, sources};
use cni_conf::Error;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The chains of iptables with the addresses that they masquerade, as they were at one moment.
#[derive(Debug, Default)]
pub struct Leftover {
    chains: Sources,
}

impl Leftover {
    /// Reads the chains of all containers.
    pub fn read() -> Result<Leftover, Error> {
        Ok(Leftover { chains: sources()? })
    }

    /// Leaves those of an existing address. The addresses must have been read later than the
    /// chains.
    #[must_use]
    pub fn without(self, exists: impl Fn(IpAddr) -> bool) -> Leftover {
        let is_gone = |addresses: &BTreeSet<IpAddr>| {
            !addresses.is_empty() && !addresses.iter().any(|ip| exists(*ip))
        };
        let chains = self.chains.into_iter();
        let chains: BTreeMap<_, _> = chains.filter(|(_, addresses)| is_gone(addresses)).collect();
        Leftover { chains }
    }

    /// The addresses that these chains are for.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.chains.values().flatten().copied().collect()
    }

    /// Removes these chains.
    pub fn remove(&self) -> Result<(), Error> {
        match self.chains.is_empty() {
            true => Ok(()),
            false => Ok(remove_sources(&self.chains)?),
        }
    }
}
