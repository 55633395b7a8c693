//! Where this daemon's rules are: in nftables or iptables, in which flavour of this, and under
//! which names.

use super::{Error, InstanceError, InstanceLock, Resource};
use crate::{
    backend::Backend,
    best_effort::best_effort,
    model::network_config::NetworkConfig,
    reconcile::Kernel,
    rules::{PacketFilter, RuleNames, RulePlace, RuleSettings, host_iptables::HostIptables},
};
use packet_filter::{Nft, Programs};
use tracing::{error, info};

/// The programs that the daemon keeps to while it runs, once it has chosen.
#[derive(Debug, Default)]
pub(super) struct ChosenPrograms(Option<Programs>);

/// Decides it by `EnableNFTables`. Without any iptables the rules are in nftables all the same: a
/// node that has no rules has no network. `settings` is told what the version of iptables lacks.
pub(super) fn choose(
    config: &NetworkConfig,
    backend: &dyn Backend,
    kernel: &mut Kernel,
    settings: &mut RuleSettings,
    chosen: &mut ChosenPrograms,
) -> Result<(RulePlace, InstanceLock), Error> {
    let programs = match config.enable_nftables {
        true => None,
        false => chosen.choose(kernel.nft().ok()),
    };
    let (names, lock) = names(backend, kernel, programs)?;
    let filter = match programs {
        None => PacketFilter::Nftables,
        Some(programs) => {
            let iptables = HostIptables::new(programs, names.chains.clone());
            settings.fully_random &= iptables.has_random_fully();
            kernel.use_iptables(iptables);
            PacketFilter::Iptables
        }
    };
    Ok((RulePlace { filter, names }, lock))
}

impl ChosenPrograms {
    fn choose(&mut self, nft: Option<&mut Nft>) -> Option<Programs> {
        if self.0.is_none() {
            match Programs::in_use(nft) {
                Ok(Some(programs)) => {
                    info!("the rules are in {programs}: EnableNFTables is false");
                    self.0 = Some(programs);
                }
                Ok(None) => error!(
                    "EnableNFTables is false in the network configuration, which means iptables, and iptables-restore is \
                     not found: the rules are in nftables. Set \"EnableNFTables\": true, or install iptables and \
                     restart flanneld"
                ),
                Err(error) => error!(
                    "EnableNFTables is false in the network configuration, which means iptables, and that cannot be used: \
                     {error}: the rules are in nftables. Set \"EnableNFTables\": true, or mend iptables and restart \
                     flanneld"
                ),
            }
        }
        self.0
    }
}

/// What the rules of a host's second daemon are called.
pub(super) fn names_of_second(backend: &dyn Backend) -> RuleNames {
    RuleNames::of_second(backend.device_names().first())
}

/// Upstream's names, unless another daemon of this host has them. A second daemon keeps the names
/// of the rules that it made while the first is away.
fn names(
    backend: &dyn Backend,
    kernel: &mut Kernel,
    programs: Option<Programs>,
) -> Result<(RuleNames, InstanceLock), Error> {
    let own = names_of_second(backend);
    if !are_present(&own, kernel, programs) {
        let upstream = RuleNames::upstream();
        match InstanceLock::acquire([Resource::rules(&upstream)]) {
            Ok(lock) => return Ok((upstream, lock)),
            Err(InstanceError::Held { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let lock = InstanceLock::acquire([Resource::rules(&own)])?;
    Ok((own, lock))
}

/// True if there are rules with these names in the packet filter that is in use, or in nftables.
fn are_present(names: &RuleNames, kernel: &mut Kernel, programs: Option<Programs>) -> bool {
    let nft = best_effort(kernel.nft(), "a kernel without nftables has no tables");
    let tables = nft.and_then(|nft| best_effort(nft.tables(), "its writes report the error"));
    let mut tables = tables.into_iter().flatten();
    let in_iptables = programs.is_some_and(|programs| {
        let mut iptables = HostIptables::new(programs, names.chains.clone());
        let sets = iptables.read(kernel.nft().ok());
        sets.iter().any(|rules| !rules.chains.is_empty())
    });
    in_iptables || tables.any(|table| names.tables.contains(&table))
}
