//! Notifications about nftables: which tables changed.

use crate::{
    Error, Family,
    reply::{NEW_GENERATION, Object},
};
use linux_net::netlink::{Multicast, NETLINK_NETFILTER, Notification};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// NFNLGRP_NFTABLES (7) as a mask
const GROUP: u32 = 1 << 6;
/// NFTA_*_TABLE and NFTA_TABLE_NAME: the first attribute of every object
const TABLE: u16 = 1;
/// Bytes of the receive buffer: the rules of a large ruleset that is loaded at once. `changed`
/// reports those that are lost.
const BACKLOG: usize = 1 << 20;

/// The socket. It never blocks, and implements `AsFd` so that a loop can poll it.
#[derive(Debug)]
pub struct NftMonitor {
    socket: Multicast,
}

impl NftMonitor {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = Multicast::open(NETLINK_NETFILTER, GROUP, BACKLOG)?;
        Ok(Self { socket })
    }

    /// The tables of the notifications that are waiting; None if some were lost, so that any table
    /// may have changed.
    pub fn changed(&mut self) -> Result<Option<Vec<(Family, String)>>, Error> {
        let (mut tables, mut lost) = (Vec::new(), false);
        while self.socket.receive(|notification| match notification {
            Notification::Message { kind, payload, .. } => {
                if let Some(table) = table(kind, payload)
                    && !tables.contains(&table)
                {
                    tables.push(table);
                }
            }
            Notification::Lost => lost = true,
        })? {}
        Ok((!lost).then_some(tables))
    }
}

/// The table that a message is about. None for the number of a new generation, which ends each
/// commit, and for an unreadable message.
pub(crate) fn table(kind: u16, payload: &[u8]) -> Option<(Family, String)> {
    let object = Object::read(kind, payload).ok()?;
    if kind == NEW_GENERATION {
        return None;
    }
    let name = object.attributes.text(TABLE)?;
    Some((object.family()?, name.to_owned()))
}

impl AsFd for NftMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NftMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_payload_panics(kind: u16, payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some((_, name)) = table(kind, &payload) {
                prop_assert!(name.len() <= payload.len());
            }
        }
    }
}
