//! What masquerade and spoof check share when they talk to the packet filter.
use crate::Error;
use nix::errno::Errno;
use packet_filter::{Family, Nft, nft::Installed};

/// Turns a packet filter's error into ours.
pub(crate) fn failed(what: &'static str) -> impl Fn(packet_filter::Error) -> Error + Copy {
    move |source| Error::Filter { what, source }
}

/// The rules of a chain; none where there is no such chain or table, or where the kernel has no nftables at all.
pub(crate) fn chain_rules(
    nft: &mut Nft,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<Vec<Installed>, Error> {
    match nft.rules(family, table, Some(chain)) {
        Err(error) if error.is_absent() || error.is_unsupported() => Ok(Vec::new()),
        // nothing can have so long a name
        Err(error) if error.errno() == Some(Errno::ERANGE) => Ok(Vec::new()),
        other => other.map_err(failed("failed to read the rules of the packet filter")),
    }
}
