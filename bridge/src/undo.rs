//! Rollback of a failed ADD.

use crate::{Error, device, error::Context, masquerade, spoof};
use linux_net::Netlink;
use packet_filter::Nft;
use plugin::{Attachment, Call, Verb, best_effort, delegate};

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
    pub(crate) fn run(self, call: &Call, owner: &Attachment, host: &mut Netlink) -> Vec<Error> {
        let mut failures = Vec::new();
        if let Some(name) = self.veth {
            let deleted = device::delete(host, &name).context(format!("cannot delete {name}"));
            failures.extend(deleted.err());
        }
        if self.ipam {
            let error = delegate::ipam(call, Verb::Del).err();
            failures
                .extend(error.map(|error| error.context("cannot release the addresses").into()));
        }
        let mut nft = (self.masquerade || self.spoof_check)
            .then(Nft::open)
            .and_then(|nft| best_effort(nft, "a kernel without nf_tables has no rules"));
        if self.masquerade {
            failures.extend(masquerade::remove(nft.as_mut(), owner).err());
        }
        if let (true, Some(nft)) = (self.spoof_check, &mut nft) {
            failures.extend(spoof::remove(nft, owner).err());
        }
        failures
    }
}
