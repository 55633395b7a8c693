//! The numbers by which a namespace knows others (rtnetlink's RTM_GETNSID).

use crate::{
    NetNs, Netlink, Request, Result,
    netlink::{Attributes, Mode, header},
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use std::os::fd::AsRawFd;

/// linux/rtnetlink.h
const RTM_GETNSID: u16 = 90;
/// linux/net_namespace.h
const NETNSA_NSID: u16 = 1;
/// The namespace has no number.
const NOT_ASSIGNED: i32 = -1;

impl Netlink {
    /// The number of another namespace in the socket's: the
    /// [`peer_netnsid`](crate::link::Link::peer_netnsid) of each link whose other end is there.
    /// None: no link leads there.
    pub fn nsid_of(&mut self, other: &NetNs) -> Result<Option<i32>> {
        let descriptor = other.shared();
        let mut message = NsidMessage::default();
        let number = u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX);
        message.attributes.push(NsidAttribute::Fd(number));
        let what = "look up the number of a network namespace";
        let request = Request::new(RTM_GETNSID, Mode::Existing, &message, what);
        let found = self
            .client
            .get(&request.holding(descriptor), |_, payload| {
                let (_, rest) = header::<4>(payload)?;
                let all = Attributes::new(rest);
                let mut all = all.iter();
                let number = all.find(|attribute| attribute.kind == NETNSA_NSID);
                number.map(|attribute| attribute.i32()).transpose()
            })?;
        Ok(found.filter(|number| *number != NOT_ASSIGNED))
    }
}
