//! `ipMasq`: source NAT of what the pods send out of their subnets, by iptables or nftables.

mod iptables;
mod nftables;

use crate::{Error, conf::Backend};
use cni_conf::IpConfig;
use packet_filter::Nft;
use plugin::Attachment;

pub(crate) use iptables::{
    Shared, Sources, families, remove as remove_iptables, remove_sources, sources,
};
pub(crate) use nftables::remove as remove_nftables;

const SET_UP: &str = "failed to set up the masquerade rules";
const READ: &str = "failed to read the masquerade rules";
const REMOVE: &str = "failed to remove the masquerade rules";

/// Adds the rules of these addresses.
pub(crate) fn add(backend: Backend, owner: &Attachment, ips: &[IpConfig]) -> Result<(), Error> {
    match backend {
        Backend::Nftables => nftables::add(owner, ips),
        Backend::Iptables => iptables::add(owner, ips),
        Backend::Unset => {
            iptables::add(owner, ips).or_else(|error| nftables::add(owner, ips).map_err(|_| error))
        }
    }
}

/// CHECK: the rules of these addresses are installed.
pub(crate) fn is_complete(
    backend: Backend,
    owner: &Attachment,
    ips: &[IpConfig],
) -> Result<bool, Error> {
    match backend {
        Backend::Nftables => nftables::is_complete(owner, ips),
        Backend::Iptables => iptables::is_complete(owner, ips),
        Backend::Unset => Ok(matches!(nftables::is_complete(owner, ips), Ok(true))
            || iptables::is_complete(owner, ips)?),
    }
}

/// Removes what an ADD of this version made for one attachment, of either backend.
pub(crate) fn remove(mut nft: Option<&mut Nft>, owner: &Attachment) -> Result<(), Error> {
    let families = families(nft.as_deref_mut(), owner);
    let nftables = nft.map_or(Ok(()), |nft| nftables::remove(nft, owner));
    nftables.and(iptables::remove(&families?, owner, &Shared::default()))
}

/// GC: removes the rules of the network's attachments that are not among the valid ones.
pub(crate) fn retain(
    nft: Option<&mut Nft>,
    network: &str,
    valid: &[Attachment],
) -> Result<(), Error> {
    let nftables = nft.map_or(Ok(()), |nft| nftables::retain(nft, network, valid));
    nftables.and(iptables::retain(network, valid))
}
