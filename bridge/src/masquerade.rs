//! `ipMasq`: which back end writes the rules, and both of them when they are to go.
use crate::{Error, conf::Backend, masquerade_nft, names::Owner};
use cni_conf::IpConfig;
use packet_filter::Nft;

/// Masquerades what these addresses send out of their subnets.
pub fn add(_backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<(), Error> {
    masquerade_nft::add(owner, ips)
}

/// The rules of these addresses are in place.
pub fn is_complete(_backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<bool, Error> {
    masquerade_nft::is_complete(owner, ips)
}

/// Removes the rules of one attachment, whichever back end made them.
pub fn remove(nft: Option<&mut Nft>, owner: &Owner) -> Result<(), Error> {
    nft.map_or(Ok(()), |nft| masquerade_nft::remove(nft, owner))
}

/// Removes the rules of every attachment of the network that is not among those.
pub fn retain(nft: Option<&mut Nft>, network: &str, valid: &[Owner]) -> Result<(), Error> {
    nft.map_or(Ok(()), |nft| masquerade_nft::retain(nft, network, valid))
}
