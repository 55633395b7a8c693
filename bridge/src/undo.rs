//! Rollback of a failed ADD.
use crate::{device, masquerade, spoof};
use linux_net::Netlink;
use packet_filter::Nft;
use plugin::{Attachment, Call, Verb, delegate};

/// The steps to roll back. To roll back a step that was not completed is safe.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    /// The name of the host end.
    pub(crate) veth: Option<String>,
    pub(crate) ipam: bool,
    pub(crate) masquerade: bool,
    pub(crate) spoof_check: bool,
}

impl Undo {
    /// Deletes the device before it releases its addresses. Returns all failures.
    pub(crate) fn run(self, call: &Call, owner: &Attachment, host: &mut Netlink) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(name) = self.veth
            && let Err(error) = device::delete(host, &name)
        {
            failures.push(format!("cannot delete {name}: {error}"));
        }
        if self.ipam
            && let Err(error) = delegate::ipam(call, Verb::Del)
        {
            failures.push(format!("cannot release the addresses: {error}"));
        }
        // a kernel without nf_tables has no rules
        let mut nft = (self.masquerade || self.spoof_check)
            .then(Nft::open)
            .and_then(Result::ok);
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
