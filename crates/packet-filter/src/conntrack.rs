//! Connections that the kernel tracks: those that were translated by rules which are no longer there are forgotten, so that
//! the next packet is translated anew (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).
use crate::{Error, socket::NetfilterSocket};
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple},
};
use nix::errno::Errno;
use std::net::IpAddr;

/// CTA_ZONE: the tuple is unique only within it
const ZONE: u16 = 18;

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
            Ok(match object.inner {
                NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) => {
                    let wanted = read(&attributes).is_some_and(|found| which(&found));
                    wanted.then(|| key(attributes))
                }
                _ => None,
            })
        })?;
        for attributes in &found {
            let request = message(ipv6, ConntrackMessage::Delete(attributes.clone()));
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
fn key(attributes: Vec<ConntrackAttribute>) -> Vec<ConntrackAttribute> {
    attributes
        .into_iter()
        .filter(|attribute| match attribute {
            ConntrackAttribute::CtaTupleOrig(_) => true,
            ConntrackAttribute::Other(other) => DefaultNla::kind(other) == ZONE,
            _ => false,
        })
        .collect()
}

fn read(attributes: &[ConntrackAttribute]) -> Option<Connection> {
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = Some(tuple),
            _ => {}
        }
    }
    let (original, reply) = (original?, reply?);
    let mut connection = Connection {
        protocol: 0,
        destination: addresses(original).1?,
        destination_port: 0,
        answered_by: addresses(reply).0?,
    };
    for part in original {
        let Tuple::Proto(parts) = part else { continue };
        for part in parts {
            match part {
                ProtoTuple::Protocol(protocol) => connection.protocol = u8::from(*protocol),
                ProtoTuple::DestinationPort(port) => connection.destination_port = *port,
                _ => {}
            }
        }
    }
    Some(connection)
}

/// Source and destination.
fn addresses(tuple: &[Tuple]) -> (Option<IpAddr>, Option<IpAddr>) {
    let (mut source, mut destination) = (None, None);
    for part in tuple {
        let Tuple::Ip(parts) = part else { continue };
        for part in parts {
            match part {
                IPTuple::SourceAddress(ip) => source = Some(*ip),
                IPTuple::DestinationAddress(ip) => destination = Some(*ip),
                _ => {}
            }
        }
    }
    (source, destination)
}
