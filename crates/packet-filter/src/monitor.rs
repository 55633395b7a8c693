//! Notifications about nftables: which tables changed, and which chains.

use crate::{
    Error, Family,
    reply::{NEW_CHAIN, NEW_GENERATION, NEW_RULE, Object},
};
use linux_net::netlink::{Multicast, NETLINK_NETFILTER, Notification};
use std::{
    collections::BTreeSet,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

/// NFNLGRP_NFTABLES (7) as a mask
const GROUP: u32 = 1 << 6;
/// NFTA_*_TABLE and NFTA_TABLE_NAME: the first attribute of every object
const TABLE: u16 = 1;
/// NFTA_CHAIN_NAME
const CHAIN_NAME: u16 = 3;
/// NFTA_RULE_CHAIN
const RULE_CHAIN: u16 = 2;
/// NFT_MSG_DELCHAIN, NFT_MSG_DELRULE
const DELETED_CHAIN: u16 = 0x0a05;
const DELETED_RULE: u16 = 0x0a08;
/// Bytes of the receive buffer: the rules of a large ruleset that is loaded at once. `changed`
/// reports those that are lost.
const BACKLOG: usize = 1 << 20;

/// A table that changed, or one chain of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// the table's
    pub family: Family,
    /// its name
    pub table: String,
    /// the chain that changed, or whose rules did; None: anything else of the table
    pub chain: Option<String>,
}

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

    /// What the notifications that are waiting are about; None if some were lost, so that any table
    /// may have changed.
    pub fn changed(&mut self) -> Result<Option<BTreeSet<Changed>>, Error> {
        let (mut changes, mut lost) = (BTreeSet::new(), false);
        while self.socket.receive(|notification| match notification {
            Notification::Message { kind, payload, .. } => changes.extend(change(kind, payload)),
            Notification::Lost => lost = true,
        })? {}
        Ok((!lost).then_some(changes))
    }
}

/// What a message is about. None for the number of a new generation, which ends each commit, and
/// for an unreadable message.
pub(crate) fn change(kind: u16, payload: &[u8]) -> Option<Changed> {
    let object = Object::read(kind, payload).ok()?;
    if kind == NEW_GENERATION {
        return None;
    }
    let text = |attribute| object.attributes.text(attribute).map(str::to_owned);
    Some(Changed {
        family: object.family()?,
        table: text(TABLE)?,
        chain: match kind {
            NEW_CHAIN | DELETED_CHAIN => text(CHAIN_NAME),
            NEW_RULE | DELETED_RULE => text(RULE_CHAIN),
            _ => None,
        },
    })
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
            if let Some(changed) = change(kind, &payload) {
                prop_assert!(changed.table.len() <= payload.len());
            }
        }
    }
}
