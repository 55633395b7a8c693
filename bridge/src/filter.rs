//! Reading nftables rules, for masquerade and spoof check.

use crate::{Error, error::Context};
use nix::errno::Errno;
use packet_filter::{Family, Installed, Nft};

/// None: a kernel without nftables has no rules.
pub(crate) fn open_nft() -> Result<Option<Nft>, Error> {
    Nft::open_if_supported().context("failed to read the rules of the packet filter")
}

/// The rules of a chain; none where the chain, the table or nftables is absent.
pub(crate) fn chain_rules(
    nft: &mut Nft,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<Vec<Installed>, Error> {
    match nft.rules(family, table, Some(chain)) {
        Err(error) if error.is_absent() || error.is_unsupported() => Ok(Vec::new()),
        // the name is longer than that of any chain
        Err(error) if error.errno() == Some(Errno::ERANGE) => Ok(Vec::new()),
        other => other.context("failed to read the rules of the packet filter"),
    }
}
