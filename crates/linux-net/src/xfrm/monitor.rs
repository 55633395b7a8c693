//! Change notifications of IPsec.

use super::{Policy, SecurityAssociation, association, policy};
use crate::{
    Result,
    netlink::{Malformed, Multicast, NETLINK_XFRM, Read, attributes, header},
};
use netlink_packet_core::NLA_HEADER_SIZE;
use netlink_packet_xfrm::{
    XFRM_USER_POLICY_ID_LEN, XFRM_USER_SA_ID_LEN,
    constants::{
        XFRM_MSG_DELPOLICY, XFRM_MSG_DELSA, XFRM_MSG_EXPIRE, XFRM_MSG_FLUSHPOLICY,
        XFRM_MSG_FLUSHSA, XFRM_MSG_NEWPOLICY, XFRM_MSG_NEWSA, XFRM_MSG_POLEXPIRE,
        XFRM_MSG_UPDPOLICY, XFRM_MSG_UPDSA, XFRMA_POLICY, XFRMA_SA,
    },
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// XFRMNLGRP_EXPIRE (2), XFRMNLGRP_SA (3) and XFRMNLGRP_POLICY (4).
const GROUPS: u32 = 1 << 1 | 1 << 2 | 1 << 3;
/// Bytes of the receive buffer: some thousand notifications.
const BACKLOG: usize = 4 * 1024 * 1024;

/// A change; the object is as it is now, or as it was when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A policy was added or replaced (true) or deleted.
    Policy(Policy, bool),
    /// Every policy was deleted.
    PoliciesFlushed,
    /// A security association was added or changed (true) or deleted.
    Association(SecurityAssociation, bool),
    /// Security associations of a kind were deleted, or one expired.
    AssociationsGone,
    /// Notifications were lost (ENOBUFS, or one is unreadable): anything may have changed.
    Overrun,
}

/// The socket. It never blocks, and implements `AsFd` so that a loop can poll it.
#[derive(Debug)]
pub struct Monitor {
    socket: Multicast,
}

impl Monitor {
    /// Subscribes to policies and security associations of the calling thread's namespace.
    /// EPROTONOSUPPORT: the kernel has no IPsec.
    pub fn open() -> Result<Self> {
        let socket = Multicast::open(NETLINK_XFRM, GROUPS, BACKLOG)?;
        Ok(Self { socket })
    }

    /// The events that are waiting, without blocking; empty if there are none.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let read = |kind, _, payload: &[u8]| event(kind, payload);
        self.socket.events(&Event::Overrun, read)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

pub(crate) fn event(kind: u16, payload: &[u8]) -> Read<Option<Event>> {
    Ok(match kind {
        XFRM_MSG_NEWPOLICY | XFRM_MSG_UPDPOLICY => {
            policy::read(payload)?.map(|policy| Event::Policy(policy, true))
        }
        XFRM_MSG_DELPOLICY => deleted_policy(payload)?.map(|policy| Event::Policy(policy, false)),
        XFRM_MSG_FLUSHPOLICY | XFRM_MSG_POLEXPIRE => Some(Event::PoliciesFlushed),
        XFRM_MSG_NEWSA | XFRM_MSG_UPDSA => {
            association::read(payload)?.map(|association| Event::Association(association, true))
        }
        XFRM_MSG_DELSA => {
            let (_, rest) = header::<XFRM_USER_SA_ID_LEN>(payload)?;
            let deleted = association::read(nested(rest, XFRMA_SA)?)?;
            deleted.map(|association| Event::Association(association, false))
        }
        XFRM_MSG_FLUSHSA | XFRM_MSG_EXPIRE => Some(Event::AssociationsGone),
        _ => None,
    })
}

/// `struct xfrm_userpolicy_id`, with the policy as it was in an attribute beside its templates.
fn deleted_policy(payload: &[u8]) -> Read<Option<Policy>> {
    let (_, rest) = header::<XFRM_USER_POLICY_ID_LEN>(payload)?;
    let mut policy = nested(rest, XFRMA_POLICY)?.to_vec();
    // the layout of a policy that is added: the structure, then the attributes
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind != XFRMA_POLICY {
            let length = attribute.value.len() + NLA_HEADER_SIZE;
            let header = u16::try_from(length)
                .map_err(|_| Malformed("an attribute of more than 64 KiB".into()))?;
            policy.extend(header.to_ne_bytes());
            policy.extend(attribute.kind.to_ne_bytes());
            policy.extend(attribute.value);
            policy.resize(policy.len().next_multiple_of(4), 0);
        }
    }
    policy::read(&policy)
}

fn nested(bytes: &[u8], kind: u16) -> Read<&[u8]> {
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(attribute.value);
        }
    }
    Err(Malformed(format!("no attribute {kind}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDED: &[u8] = include_bytes!("../../testdata/xfrm-policy.bin");
    /// The notification of a 6.18 kernel about the end of the same policy.
    const DELETED: &[u8] = include_bytes!("../../testdata/xfrm-policy-deleted.bin");

    #[test]
    fn policies_that_come_and_go_are_the_same() {
        let Ok(Some(Event::Policy(added, true))) = event(XFRM_MSG_NEWPOLICY, ADDED) else {
            panic!("no policy");
        };
        let deleted = Event::Policy(added.clone(), false);
        assert_eq!(event(XFRM_MSG_DELPOLICY, DELETED), Ok(Some(deleted)));
        // with a mark it is another one
        let marked = [DELETED, &[12, 0, 21, 0, 1, 0, 0, 0, 1, 0, 0, 0]].concat();
        let Ok(Some(Event::Policy(marked, false))) = event(XFRM_MSG_DELPOLICY, &marked) else {
            panic!("no policy");
        };
        assert!(marked.narrowed && marked.template == added.template);
        assert!(event(XFRM_MSG_DELPOLICY, &DELETED[..100]).is_err());
    }

    #[test]
    fn flushes_are_told() {
        assert_eq!(
            event(XFRM_MSG_FLUSHPOLICY, &[]),
            Ok(Some(Event::PoliciesFlushed))
        );
        assert_eq!(
            event(XFRM_MSG_FLUSHSA, &[50]),
            Ok(Some(Event::AssociationsGone))
        );
        assert_eq!(event(0x17, &[]), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0x10..0x29u16, at in 0..DELETED.len(), value: u8) {
            let mut bytes = DELETED.to_vec();
            bytes[at] = value;
            drop(event(kind, &bytes));
        }
    }
}
