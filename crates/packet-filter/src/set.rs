//! Sets and maps. They hold the state of each pod, since adding an element takes the same time
//! however many there are.

use crate::{
    decode::{self, Data},
    expression::{ACCEPT, DROP, verdict_data},
    user_data::{self, Order},
};
use linux_net::netlink::{Attributes, Malformed, Read};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, SetElementAttribute, Verdict,
};
use std::net::IpAddr;

const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;

/// Types of keys and values, by their names in `nft`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// ipv4_addr
    Ipv4Addr,
    /// ipv6_addr
    Ipv6Addr,
    /// inet_proto
    InetProto,
    /// inet_service
    InetService,
    /// ifname
    Ifname,
}

impl DataType {
    /// `enum datatypes` of nft, by which it lists the set.
    fn number(self) -> u32 {
        match self {
            DataType::Ipv4Addr => 7,
            DataType::Ipv6Addr => 8,
            DataType::InetProto => 12,
            DataType::InetService => 13,
            DataType::Ifname => 41,
        }
    }

    fn len(self) -> usize {
        match self {
            DataType::Ipv4Addr => 4,
            DataType::Ipv6Addr => 16,
            DataType::InetProto => 1,
            DataType::InetService => 2,
            DataType::Ifname => 16,
        }
    }

    fn order(self) -> Order {
        match self {
            DataType::Ifname => Order::Host,
            _ => Order::Network,
        }
    }

    fn read(self, bytes: &[u8]) -> Option<Part> {
        let bytes = bytes.get(..self.len())?;
        Some(match self {
            DataType::Ipv4Addr => Part::Ip(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            DataType::Ipv6Addr => Part::Ip(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            DataType::InetProto => Part::Protocol(*bytes.first()?),
            DataType::InetService => Part::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
            DataType::Ifname => {
                let end = bytes.iter().position(|byte| *byte == 0)?;
                Part::Ifname(String::from_utf8(bytes[..end].to_vec()).ok()?)
            }
        })
    }
}

/// The type of a map's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueType {
    /// accept, drop, jump and the like
    Verdict,
    /// parts of data; more than one is a concatenation
    Data(Vec<DataType>),
}

/// A set, or a map if it has a value type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// unique in its table
    pub name: String,
    /// types of the key's parts; more than one is a concatenation
    pub key: Vec<DataType>,
    /// type of a map's values; None for a set
    pub value: Option<ValueType>,
    /// NFTNL_UDATA_SET_COMMENT
    pub comment: Option<String>,
}

/// A part of a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// ipv4_addr or ipv6_addr
    Ip(IpAddr),
    /// inet_proto, IPPROTO_*
    Protocol(u8),
    /// inet_service
    Port(u16),
    /// ifname
    Ifname(String),
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Part::Ip(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Part::Ip(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Part::Protocol(number) => vec![*number],
            Part::Port(number) => number.to_be_bytes().to_vec(),
            Part::Ifname(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                bytes
            }
        }
    }
}

/// The value of a map's element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// accept
    Accept,
    /// drop
    Drop,
    /// return
    Return,
    /// jump CHAIN
    Jump(String),
    /// goto CHAIN
    Goto(String),
    /// parts of data
    Data(Vec<Part>),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// parts of its key
    pub key: Vec<Part>,
    /// None in a set
    pub value: Option<Value>,
    /// comment "..."
    pub comment: Option<String>,
}

/// Types as one number, six bits each (nft's concat_type_alloc).
pub(crate) fn type_number(types: &[DataType]) -> u32 {
    types
        .iter()
        .fold(0, |number, part| number << 6 | part.number())
}

/// Bytes of a key or value: parts of a concatenation start at whole words.
pub(crate) fn type_len(types: &[DataType]) -> usize {
    match types {
        [single] => single.len(),
        many => many.iter().map(|part| part.len().next_multiple_of(4)).sum(),
    }
}

fn order(types: &[DataType]) -> Order {
    match types {
        [single] => single.order(),
        _ => Order::None,
    }
}

fn pack(parts: &[Part]) -> Vec<u8> {
    match parts {
        [single] => single.bytes(),
        many => many
            .iter()
            .flat_map(|part| {
                let mut bytes = part.bytes();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                bytes
            })
            .collect(),
    }
}

fn unpack(types: &[DataType], mut bytes: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::with_capacity(types.len());
    for part in types {
        parts.push(part.read(bytes)?);
        bytes = bytes
            .get(part.len().next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Some(parts)
}

impl Set {
    pub(crate) fn user_data(&self) -> Vec<u8> {
        let value = match &self.value {
            None => None,
            Some(ValueType::Verdict) => Some(Order::None),
            Some(ValueType::Data(types)) => Some(order(types)),
        };
        user_data::set(order(&self.key), value, self.comment.as_deref())
    }

    /// Reads an element of this set.
    pub(crate) fn read(&self, element: Attributes<'_>) -> Read<Element> {
        self.try_read(element)
            .ok_or_else(|| Malformed("an element does not have the types of its set".into()))
    }

    fn try_read(&self, element: Attributes<'_>) -> Option<Element> {
        let value = |kind| decode::data(element.nested(kind));
        let key = match value(NFTA_SET_ELEM_KEY)? {
            Data::Value(bytes) => unpack(&self.key, bytes)?,
            Data::Verdict(..) => return None,
        };
        let value = match (&self.value, value(NFTA_SET_ELEM_DATA)) {
            (None, None) => None,
            (Some(ValueType::Data(types)), Some(Data::Value(bytes))) => {
                Some(Value::Data(unpack(types, bytes)?))
            }
            (Some(ValueType::Verdict), Some(Data::Verdict(code, chain))) => {
                Some(match (code, chain) {
                    (ACCEPT, None) => Value::Accept,
                    (DROP, None) => Value::Drop,
                    (Verdict::Return, None) => Value::Return,
                    (Verdict::Jump, Some(chain)) => Value::Jump(chain.to_owned()),
                    (Verdict::Goto, Some(chain)) => Value::Goto(chain.to_owned()),
                    _ => return None,
                })
            }
            _ => return None,
        };
        let comment = element.get(NFTA_SET_ELEM_USERDATA);
        Some(Element {
            key,
            value,
            comment: comment.and_then(user_data::read_comment),
        })
    }
}

impl Element {
    /// NFTA_LIST_ELEM with all of it, or with the key alone, which is enough to delete it.
    pub(crate) fn encode(&self, whole: bool) -> ListAttribute<SetElementAttribute> {
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(pack(
            &self.key,
        )))];
        if let (true, Some(value)) = (whole, &self.value) {
            attributes.push(SetElementAttribute::Data(match value {
                Value::Accept => verdict_data(ACCEPT, None),
                Value::Drop => verdict_data(DROP, None),
                Value::Return => verdict_data(Verdict::Return, None),
                Value::Jump(chain) => verdict_data(Verdict::Jump, Some(chain)),
                Value::Goto(chain) => verdict_data(Verdict::Goto, Some(chain)),
                Value::Data(parts) => DataAttribute::Value(pack(parts)),
            }));
        }
        if let (true, Some(comment)) = (whole, &self.comment) {
            attributes.push(SetElementAttribute::UserData(user_data::comment(comment)));
        }
        ListAttribute::Element(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_lengths_are_nft_s() {
        let key = [DataType::InetProto, DataType::InetService];
        assert_eq!(type_number(&key), 0x30d);
        assert_eq!(type_len(&key), 8);
        assert_eq!(
            type_number(&[DataType::Ipv4Addr, DataType::InetService]),
            0x1cd
        );
        assert_eq!(type_len(&[DataType::InetProto]), 1);
        assert_eq!(
            pack(&[Part::Protocol(6), Part::Port(80)]),
            [6, 0, 0, 0, 0, 80, 0, 0]
        );
    }

    fn bytes(element: &ListAttribute<SetElementAttribute>) -> Vec<u8> {
        use netlink_packet_core::Emitable;
        let mut bytes = vec![0; element.buffer_len()];
        element.emit(&mut bytes);
        bytes
    }

    fn part() -> impl Strategy<Value = (DataType, Part)> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| (DataType::Ipv4Addr, Part::Ip(ip.into()))),
            any::<[u8; 16]>().prop_map(|ip| (DataType::Ipv6Addr, Part::Ip(ip.into()))),
            any::<u8>().prop_map(|number| (DataType::InetProto, Part::Protocol(number))),
            any::<u16>().prop_map(|number| (DataType::InetService, Part::Port(number))),
            "[a-z0-9.]{1,15}".prop_map(|name| (DataType::Ifname, Part::Ifname(name))),
        ]
    }

    proptest! {
        #[test]
        fn elements_come_back(
            key in prop::collection::vec(part(), 1..4),
            value in prop::collection::vec(part(), 1..3),
            comment in prop::option::of("[a-z ]{1,20}"),
        ) {
            let (key_types, key): (Vec<_>, Vec<_>) = key.into_iter().unzip();
            let (value_types, value): (Vec<_>, Vec<_>) = value.into_iter().unzip();
            let set = Set {
                name: "m".into(),
                key: key_types,
                value: Some(ValueType::Data(value_types)),
                comment: None,
            };
            let element = Element { key, value: Some(Value::Data(value)), comment };
            let bytes = bytes(&element.encode(true));
            let list = Attributes::new(&bytes);
            prop_assert_eq!(set.read(list.nested(1)).unwrap(), element);
        }

        #[test]
        fn short_keys_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4)) {
            let set = Set {
                name: "s".into(),
                key: vec![DataType::InetProto, DataType::Ipv4Addr],
                value: None,
                comment: None,
            };
            let element = ListAttribute::Element(vec![SetElementAttribute::Key(
                DataAttribute::Value(bytes),
            )]);
            let bytes = self::bytes(&element);
            prop_assert!(set.read(Attributes::new(&bytes).nested(1)).is_err());
        }
    }
}
