//! Reads and writes this daemon's rules in iptables by the programs of one flavour: one
//! `iptables-save` a look at a family, one `iptables-restore` a change of it.

use super::iptables::{self, ChainNames, Lines};
use crate::{best_effort::best_effort, model::rule_set::RuleSet};
use packet_filter::{Family, Flavour, Iptables, Nft, Programs};
use tracing::{debug, info};

/// Seconds that a change waits for the lock of the legacy flavour. The pass that makes it heals
/// nothing else meanwhile; a change that fails is tried again.
const LOCK_TIMEOUT: u32 = 2;
const TABLES: [&str; 2] = ["nat", "filter"];

/// The rules of one daemon.
#[derive(Debug)]
pub(crate) struct HostIptables {
    programs: Programs,
    names: ChainNames,
    /// What the last look found, and the generation of nf_tables before it: nothing of the nftables
    /// flavour changes without a new one.
    seen: Option<(u32, Vec<RuleSet>)>,
}

/// Why rules are not in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program is missing, cannot be run, or refuses the rules.
    #[error("{0} (\"EnableNFTables\": true in the network configuration needs no iptables)")]
    Program(#[from] packet_filter::Error),
    /// As many rules as were written are listed, and they differ.
    #[error(
        "iptables-save lists the rules that iptables-restore has taken in another form (\"EnableNFTables\": true in the \
         network configuration needs no iptables)"
    )]
    OtherForm,
}

impl HostIptables {
    pub(crate) fn new(programs: Programs, names: ChainNames) -> HostIptables {
        HostIptables {
            programs,
            names,
            seen: None,
        }
    }

    /// The flavour that the rules are of.
    pub(crate) fn flavour(&self) -> Flavour {
        self.programs.flavour()
    }

    /// MASQUERADE has `--random-fully`.
    pub(crate) fn has_random_fully(&self) -> bool {
        self.programs.has_random_fully()
    }

    /// The rules of both families. One that cannot be read is missing: the write reports the error.
    pub(crate) fn read(&mut self, mut nft: Option<&mut Nft>) -> Vec<RuleSet> {
        let is_nft = self.flavour() == Flavour::Nft;
        let generation = nft.as_mut().filter(|_| is_nft);
        let generation = generation.and_then(|nft| nft.generation().ok());
        if let Some((of, sets)) = self.seen.take_if(|(of, _)| Some(*of) == generation) {
            return self.seen.insert((of, sets)).1.clone();
        }
        let changed = best_effort(self.programs.changed(), "reading the rules fails, too");
        if let Some(programs) = changed.flatten() {
            info!(
                "the rules are in {programs} from now on: it replaces {}",
                self.programs
            );
            self.programs = programs;
            return self.read(nft);
        }
        let mut sets = Vec::new();
        for ipv6 in [false, true] {
            match self.read_family(ipv6, nft.as_deref_mut()) {
                Ok(set) => sets.push(set),
                Err(error) => debug!("{error}: the rules count as missing"),
            }
        }
        // what was not read is read again
        self.seen = match (generation, sets.len()) {
            (Some(generation), 2) => Some((generation, sets.clone())),
            _ => None,
        };
        sets
    }

    /// Starts no process where no chain of ours can be.
    fn read_family(
        &self,
        ipv6: bool,
        nft: Option<&mut Nft>,
    ) -> Result<RuleSet, packet_filter::Error> {
        let may_have = match (self.flavour(), nft) {
            (Flavour::Nft, Some(nft)) => {
                let mut found = false;
                for table in TABLES {
                    let chains = nft.chains(family(ipv6), table)?;
                    found |= chains
                        .iter()
                        .any(|chain| self.names.contains(table, &chain.name));
                }
                found
            }
            (Flavour::Legacy, _) => !self.iptables(ipv6).legacy_tables()?.is_empty(),
            (Flavour::Nft, None) => true,
        };
        match may_have {
            true => {
                let tables = self.iptables(ipv6).save_all()?;
                Ok(iptables::observed(&self.names, ipv6, &tables))
            }
            false => Ok(RuleSet {
                ipv6,
                chains: Vec::new(),
            }),
        }
    }

    /// Writes what differs from the wanted rules of a family. Packets never find a part of them:
    /// each table is replaced at once.
    pub(crate) fn put(&mut self, wanted: &RuleSet) -> Result<(), Error> {
        let iptables = self.iptables(wanted.ipv6).waiting(LOCK_TIMEOUT);
        let lines = |tables: &_| iptables::lines(wanted, &self.names, tables);
        let lines_before: Lines = lines(&iptables.save_all()?);
        self.seen = None;
        if is_nothing(&lines_before) {
            return Ok(());
        }
        iptables.restore_all(&lines_before)?;
        let now = iptables::observed(&self.names, wanted.ipv6, &iptables.save_all()?);
        match *wanted != now && sizes(wanted) == sizes(&now) {
            true => Err(Error::OtherForm),
            // what another program has changed since is noticed as any change of it
            false => Ok(()),
        }
    }

    fn iptables(&self, ipv6: bool) -> Iptables {
        self.programs.family(ipv6)
    }
}

/// The number of rules of each chain, and of jumps to it.
fn sizes(rules: &RuleSet) -> Vec<(usize, usize)> {
    let chains = rules.chains.iter();
    chains
        .map(|chain| (chain.rules.len(), chain.jumps.len()))
        .collect()
}

fn is_nothing(lines: &Lines) -> bool {
    lines.iter().all(|(_, lines)| lines.is_empty())
}

/// The family of nf_tables that has the rules of the nftables flavour.
pub(super) fn family(ipv6: bool) -> Family {
    match ipv6 {
        true => Family::Ip6,
        false => Family::Ip,
    }
}
