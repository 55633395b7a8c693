//! Connections that the kernel tracks: those that were translated by rules which are no longer there are forgotten, so that
//! the next packet is translated anew (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).
use crate::{Error, attributes::Attributes, socket::NetfilterSocket};
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, conntrack::ConntrackMessage,
};
use nix::errno::Errno;
use std::net::IpAddr;

/// IPCTNL_MSG_CT_NEW with NFNL_SUBSYS_CTNETLINK
const NEW: u16 = 0x0100;
/// IPCTNL_MSG_CT_DELETE
const DELETE: u8 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
/// The tuple is unique only within it.
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
    /// whom its first packet was for
    pub destination: IpAddr,
    /// 0 where the protocol has none
    pub destination_port: u16,
    /// who answers: the container, where the destination was translated
    pub answered_by: IpAddr,
}

/// The table of them, of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Conntrack {
    socket: NetfilterSocket,
}

impl Conntrack {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: NetfilterSocket::open()?,
        })
    }

    /// Forgets the connections of one family that `which` picks; how many. One that ends meanwhile is no error.
    pub fn forget(
        &mut self,
        ipv6: bool,
        mut which: impl FnMut(&Connection) -> bool,
    ) -> Result<usize, Error> {
        let question = message(ipv6, ConntrackMessage::Get(Vec::new()));
        let found = self.socket.dump(&question, "list connections", |object| {
            // whatever cannot be read is not ours to forget
            let attributes = object.of(NEW);
            let key = attributes.and_then(|attributes| {
                let connection = read(&attributes)?;
                which(&connection).then(|| key(&attributes))
            });
            Ok(key)
        })?;
        for attributes in &found {
            let request = ConntrackMessage::Other {
                message_type: DELETE,
                attributes: attributes.clone(),
            };
            let request = message(ipv6, request);
            let what = "delete connection";
            let refused = self.socket.exchange([(request, 0)], what)?;
            for refusal in refused {
                if refusal.errno != Errno::ENOENT {
                    return Err(refusal.into_error(what));
                }
            }
        }
        Ok(found.len())
    }
}

fn message(ipv6: bool, inner: ConntrackMessage) -> NetfilterMessage {
    let family = if ipv6 {
        NetfilterProtoFamily::IPv6
    } else {
        NetfilterProtoFamily::IPv4
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

/// What names it in a request.
fn key(attributes: &Attributes) -> Vec<DefaultNla> {
    [(CTA_TUPLE_ORIG, NLA_F_NESTED), (CTA_ZONE, 0)]
        .into_iter()
        .filter_map(|(kind, flag)| {
            let value = attributes.get(kind)?.to_vec();
            Some(DefaultNla::new(kind | flag, value))
        })
        .collect()
}

fn read(attributes: &Attributes) -> Option<Connection> {
    let original = attributes.nested(CTA_TUPLE_ORIG);
    let reply = attributes.nested(CTA_TUPLE_REPLY);
    let protocol = original.nested(CTA_TUPLE_PROTO);
    let port = protocol.get(CTA_PROTO_DST_PORT);
    let port = port.and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    Some(Connection {
        protocol: *protocol.get(CTA_PROTO_NUM)?.first()?,
        destination: address(&original, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        destination_port: port.unwrap_or(0),
        answered_by: address(&reply, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
    })
}

fn address(tuple: &Attributes, v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = tuple.nested(CTA_TUPLE_IP);
    match (addresses.get(v4), addresses.get(v6)) {
        (Some(bytes), _) => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        (None, Some(bytes)) => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        (None, None) => None,
    }
}
