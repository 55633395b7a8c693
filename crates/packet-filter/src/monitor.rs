//! Who changed which table: NFNLGRP_NFTABLES.
use crate::{Error, Family, attributes::Attributes, error::errno_of, reply};
use netlink_packet_core::NetlinkBuffer;
use netlink_packet_netfilter::NetfilterHeader;
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::{errno::Errno, libc::MSG_DONTWAIT};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// NFNLGRP_NFTABLES
const GROUP: u32 = 7;
/// NFT_MSG_NEWGEN: ends each commit, names no table
const NEWGEN: u16 = 15;
/// NFTA_*_TABLE (and NFTA_TABLE_NAME) is the first attribute of every object
const TABLE: u16 = 1;
/// struct nfgenmsg
const FAMILY_HEADER: usize = 4;
/// Room for the rules of a large ruleset that somebody loads at once. Losing some is no harm (`changed` says so).
const BACKLOG: u32 = 1 << 20;
const BUFFER: usize = 128 * 1024;

/// Notifications (NFNLGRP_NFTABLES): wakes when any table changed. Non-blocking, AsFd.
#[derive(Debug)]
pub struct NftMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl NftMonitor {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.set_rx_buf_sz(BACKLOG)?;
            socket.bind_auto()?;
            socket.add_membership(GROUP)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|source| Error::io("watch nftables", source))?,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Reads all that waits; the (family, table) pairs that changed; an overrun gives `None`.
    pub fn changed(&mut self) -> Result<Option<Vec<(Family, String)>>, Error> {
        let (mut tables, mut overrun) = (Vec::new(), false);
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, MSG_DONTWAIT) {
                Ok(_) => {
                    for table in named(&self.buffer) {
                        if !tables.contains(&table) {
                            tables.push(table);
                        }
                    }
                }
                Err(source) => match errno_of(&source) {
                    Errno::EAGAIN => break,
                    Errno::EINTR => {}
                    Errno::ENOBUFS => overrun = true,
                    _ => return Err(Error::io("watch nftables", source)),
                },
            }
        }
        Ok((!overrun).then_some(tables))
    }
}

/// The tables that the messages of one packet are about; what cannot be read names none.
fn named(mut packet: &[u8]) -> Vec<(Family, String)> {
    let mut tables = Vec::new();
    while let Ok(message) = NetlinkBuffer::new_checked(packet) {
        let payload = message.payload();
        let header = NetfilterHeader::parse(payload);
        if message.message_type() & 0xff != NEWGEN
            && let Ok(header) = header
            && let Some(family) = reply::family(header.family)
            && let Some(name) = Attributes::read(&payload[FAMILY_HEADER..]).text(TABLE)
        {
            tables.push((family, name.to_owned()));
        }
        let len = (message.length() as usize).next_multiple_of(4);
        match packet.get(len..) {
            Some(rest) if len > 0 => packet = rest,
            _ => break,
        }
    }
    tables
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
        fn garbage_names_nothing_and_does_no_harm(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(named(&packet).len() <= packet.len() / 16);
        }
    }
}
