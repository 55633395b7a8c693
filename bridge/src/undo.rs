//! What an ADD has done so far, so that a failure can take it back.
use crate::{masquerade, names::Owner, spoof};
use linux_net::{Netlink, link};
use packet_filter::Nft;
use plugin::{Call, Verb, delegate};

/// The steps that were taken. Taking one back that only half happened is safe: what is not there is not missed.
#[derive(Debug, Default)]
pub struct Undo {
    /// the host end's name
    pub veth: Option<String>,
    /// IPAM gave addresses
    pub ipam: bool,
    /// masquerade rules may exist
    pub masquerade: bool,
    /// spoof check rules may exist
    pub spoof_check: bool,
}

impl Undo {
    /// Takes everything back, the device before its addresses; goes on after a failure and tells all of them.
    pub fn run(self, call: &Call, owner: &Owner, host: &mut Netlink) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(name) = self.veth
            && let Err(error) = host.request(&link::delete_by_name(&name))
            && !error.is_absent()
        {
            failures.push(format!("cannot remove {name}: {error}"));
        }
        if self.ipam
            && let Err(error) = delegate::ipam(call, Verb::Del)
        {
            failures.push(format!("cannot give the addresses back: {error}"));
        }
        let mut nft = match self.masquerade || self.spoof_check {
            true => Nft::open().ok(),
            false => None,
        };
        if self.masquerade
            && let Err(error) = masquerade::remove(nft.as_mut(), owner)
        {
            failures.push(error.to_string());
        }
        if self.spoof_check
            && let Some(nft) = &mut nft
            && let Err(error) = spoof::remove(nft, owner)
        {
            failures.push(error.to_string());
        }
        failures
    }
}
