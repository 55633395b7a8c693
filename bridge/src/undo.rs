//! Rollback of a failed ADD.

use crate::{Error, device, error::Context, filter::open_nft, masquerade, spoof};
use linux_net::Netlink;
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
        let nft = (self.masquerade || self.spoof_check).then(open_nft);
        let mut nft = match nft.transpose() {
            Ok(nft) => nft.flatten(),
            Err(error) => {
                failures.push(error);
                None
            }
        };
        if self.masquerade {
            failures.extend(masquerade::remove(nft.as_mut(), owner).err());
        }
        if let (true, Some(nft)) = (self.spoof_check, &mut nft) {
            failures.extend(spoof::remove(nft, owner).err());
        }
        failures
    }
}
