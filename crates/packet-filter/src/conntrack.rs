//! Connection tracking (ctnetlink, linux/netfilter/nfnetlink_conntrack.h): connections that were
//! translated by rules which are gone are deleted, so that the next packet is translated by the
//! present rules.

use crate::{Error, message::request, reply::Object};
use linux_net::{
    Request,
    netlink::{Attributes, Client, Mode, NETLINK_NETFILTER},
};
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::{NetfilterProtoFamily, conntrack::ConntrackMessage};
use nix::errno::Errno;
use std::net::IpAddr;

/// IPCTNL_MSG_CT_NEW with NFNL_SUBSYS_CTNETLINK
const NEW: u16 = 0x0100;
/// IPCTNL_MSG_CT_DELETE
const DELETE: u8 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
/// A tuple is unique in its zone.
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// IPPROTO_*
    pub protocol: u8,
    /// destination of its first packet
    pub destination: IpAddr,
    /// 0 where the protocol has none
    pub destination_port: u16,
    /// source of the replies: the container, where the destination was translated
    pub answered_by: IpAddr,
}

/// The connection tracking table.
#[derive(Debug)]
pub struct Conntrack {
    client: Client,
}

impl Conntrack {
    /// Opens that of the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let client = Client::open(NETLINK_NETFILTER)?;
        Ok(Self { client })
    }

    /// Deletes the connections of one family that `which` selects and returns their number. A
    /// connection that ends meanwhile is no error.
    pub fn forget(
        &mut self,
        ipv6: bool,
        mut which: impl FnMut(&Connection) -> bool,
    ) -> Result<usize, Error> {
        let family = match ipv6 {
            true => NetfilterProtoFamily::IPv6,
            false => NetfilterProtoFamily::IPv4,
        };
        let list = request(
            family,
            ConntrackMessage::Get(Vec::new()),
            Mode::Dump,
            "list connections",
        );
        let deletions = self.client.dump(&list, |kind, payload| {
            // an unreadable connection is left alone
            let attributes = Object::read(kind, payload)?.of(NEW);
            Ok(attributes.and_then(|attributes| {
                which(&read(attributes)?).then(|| deletion(family, attributes))
            }))
        })?;
        for result in self.client.batch(&deletions) {
            match result {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(deletions.len())
    }
}

fn deletion(family: NetfilterProtoFamily, attributes: Attributes<'_>) -> Request {
    let delete = ConntrackMessage::Other {
        message_type: DELETE,
        attributes: key(attributes),
    };
    request(family, delete, Mode::Existing, "delete connection")
}

/// The attributes that identify a connection.
fn key(attributes: Attributes<'_>) -> Vec<DefaultNla> {
    [(CTA_TUPLE_ORIG, NLA_F_NESTED), (CTA_ZONE, 0)]
        .into_iter()
        .filter_map(|(kind, flag)| {
            let value = attributes.get(kind)?.to_vec();
            Some(DefaultNla::new(kind | flag, value))
        })
        .collect()
}

pub(crate) fn read(attributes: Attributes<'_>) -> Option<Connection> {
    let original = attributes.nested(CTA_TUPLE_ORIG);
    let reply = attributes.nested(CTA_TUPLE_REPLY);
    let protocol = original.nested(CTA_TUPLE_PROTO);
    Some(Connection {
        protocol: *protocol.get(CTA_PROTO_NUM)?.first()?,
        destination: address(original, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        destination_port: protocol.u16_be(CTA_PROTO_DST_PORT).unwrap_or(0),
        answered_by: address(reply, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
    })
}

fn address(tuple: Attributes<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = tuple.nested(CTA_TUPLE_IP);
    addresses.ip(v4).or_else(|| addresses.ip(v6))
}
