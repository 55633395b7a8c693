//! `ipMasq`: which back end writes the rules, and both of them when they are to go.
use crate::{Error, conf::Backend, masquerade_iptables, masquerade_nft, names::Owner};
use cni_conf::IpConfig;
use packet_filter::Nft;

/// Masquerades what these addresses send out of their subnets. Where the configuration does not say by what: by iptables, and
/// by nftables where iptables cannot be used.
pub fn add(backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<(), Error> {
    match backend {
        Backend::Nftables => masquerade_nft::add(owner, ips),
        Backend::Iptables => masquerade_iptables::add(owner, ips),
        Backend::Unset => masquerade_iptables::add(owner, ips)
            .or_else(|error| masquerade_nft::add(owner, ips).map_err(|_| error)),
    }
}

/// The rules of these addresses are in place. Where the configuration does not say, either back end may have made them.
pub fn is_complete(backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<bool, Error> {
    match backend {
        Backend::Nftables => masquerade_nft::is_complete(owner, ips),
        Backend::Iptables => masquerade_iptables::is_complete(owner, ips),
        Backend::Unset => {
            let nftables = masquerade_nft::is_complete(owner, ips);
            Ok(matches!(nftables, Ok(true)) || masquerade_iptables::is_complete(owner, ips)?)
        }
    }
}

/// Removes the rules of one attachment, whichever back end made them.
pub fn remove(mut nft: Option<&mut Nft>, owner: &Owner) -> Result<(), Error> {
    let families = masquerade_iptables::families(nft.as_deref_mut(), owner);
    let nftables = nft.map_or(Ok(()), |nft| masquerade_nft::remove(nft, owner));
    nftables.and(masquerade_iptables::remove(&families, owner))
}

/// Removes the rules of every attachment of the network that is not among those.
pub fn retain(nft: Option<&mut Nft>, network: &str, valid: &[Owner]) -> Result<(), Error> {
    let nftables = match nft {
        Some(nft) => masquerade_nft::retain(nft, network, valid),
        None => Ok(()),
    };
    nftables.and(masquerade_iptables::retain(network, valid))
}
