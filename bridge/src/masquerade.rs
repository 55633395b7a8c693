//! `ipMasq`: which back end writes the rules, and both of them when they are to go.
use crate::{Error, conf::Backend, masquerade_iptables, masquerade_nft, names::Owner};
use cni_conf::IpConfig;
use packet_filter::{Iptables, Nft};

/// Masquerades what these addresses send out of their subnets.
pub fn add(backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<(), Error> {
    match uses_nftables(backend, ips) {
        true => masquerade_nft::add(owner, ips),
        false => masquerade_iptables::add(owner, ips),
    }
}

/// The rules of these addresses are in place.
pub fn is_complete(backend: Backend, owner: &Owner, ips: &[IpConfig]) -> Result<bool, Error> {
    match uses_nftables(backend, ips) {
        true => masquerade_nft::is_complete(owner, ips),
        false => masquerade_iptables::is_complete(owner, ips),
    }
}

/// Where the configuration does not say: iptables, unless its programs are missing for a family in use.
fn uses_nftables(backend: Backend, ips: &[IpConfig]) -> bool {
    match backend {
        Backend::Nftables => true,
        Backend::Iptables => false,
        Backend::Unset => ips
            .iter()
            .any(|ip| !Iptables::of(ip.address.is_ipv6()).is_installed()),
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
