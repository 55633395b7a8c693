//! The instructions of the kernel's virtual machine (linux/netfilter/nf_tables.h), each in one
//! canonical form: compiled and read instructions are equal if they do the same.
//! netlink-packet-netfilter has no types for ct, fib, masq and nat: these are built from plain
//! attributes here, in order of type.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload,
    Register, Verdict, VerdictAttribute,
};
use std::net::IpAddr;

/// NF_DROP, NF_ACCEPT (linux/netfilter.h)
pub(crate) const DROP: Verdict = Verdict::Other(0);
pub(crate) const ACCEPT: Verdict = Verdict::Other(1);

/// NFT_PAYLOAD_*_HEADER
pub(crate) const LINK_HEADER: u32 = 0;
pub(crate) const NETWORK_HEADER: u32 = 1;
pub(crate) const TRANSPORT_HEADER: u32 = 2;
/// NFT_CT_STATE, NFT_CT_STATUS
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
/// NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE
pub(crate) const FIB_DADDR: u32 = 2;
pub(crate) const FIB_ADDRTYPE: u32 = 3;
/// NF_NAT_RANGE_MAP_IPS, _PROTO_SPECIFIED, _PROTO_RANDOM_FULLY (linux/netfilter/nf_nat.h)
pub(crate) const MAP_IPS: u32 = 1;
pub(crate) const PROTO_SPECIFIED: u32 = 2;
pub(crate) const PROTO_RANDOM_FULLY: u32 = 16;

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_MASQ_FLAGS: u16 = 1;
pub(crate) const NFTA_NAT_TYPE: u16 = 1;
pub(crate) const NFTA_NAT_FAMILY: u16 = 2;
pub(crate) const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
pub(crate) const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
pub(crate) const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
pub(crate) const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
pub(crate) const NFTA_NAT_FLAGS: u16 = 7;
/// NFT_NAT_DNAT
const DNAT: u32 = 1;

/// Loads bytes of the packet.
pub(crate) fn payload(header: u32, offset: u32, len: u32, register: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(header),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
}

/// Loads metadata of the packet.
pub(crate) fn meta(key: MetaKey, register: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)])
}

/// Sets metadata of the packet.
pub(crate) fn set_meta(key: MetaKey, register: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::SourceRegister(register)])
}

/// Loads metadata of the connection (NFT_CT_*).
pub(crate) fn ct(key: u32, register: Register) -> Expressions {
    let register = number(NFTA_CT_DREG, register.into());
    other("ct", vec![register, number(NFTA_CT_KEY, key)])
}

/// Looks an address up in the routing tables.
pub(crate) fn fib(flags: u32, result: u32, register: Register) -> Expressions {
    let attributes = [
        (NFTA_FIB_DREG, register.into()),
        (NFTA_FIB_RESULT, result),
        (NFTA_FIB_FLAGS, flags),
    ];
    other("fib", numbers(&attributes))
}

/// register = (register & mask) ^ xor
pub(crate) fn bitwise(register: Register, mask: &[u8], xor: &[u8]) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register),
        Bitwise::DestinationRegister(register),
        Bitwise::Length(mask.len() as u32),
        Bitwise::Mask(value(mask)),
        Bitwise::Xor(value(xor)),
    ])
}

/// Ends the rule unless the comparison holds.
pub(crate) fn compare(register: Register, operator: Operator, data: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(register),
        Cmp::Op(operator),
        Cmp::Data(value(data)),
    ])
}

/// Ends the rule unless the set has the key; a map's value goes to `result`.
pub(crate) fn lookup(set: &str, key: Register, result: Option<Register>) -> Expressions {
    let mut attributes = vec![Lookup::SourceRegister(key), Lookup::Set(set.to_owned())];
    attributes.extend(result.map(Lookup::DestinationRegister));
    Expressions::Lookup(attributes)
}

/// Loads a constant.
pub(crate) fn immediate(register: Register, data: &[u8]) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(value(data)),
    ])
}

/// Ends the rule with a verdict.
pub(crate) fn verdict(code: Verdict, chain: Option<&str>) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(verdict_data(code, chain)),
    ])
}

/// Translates the source address to that of the outgoing interface.
pub(crate) fn masquerade(flags: u32) -> Expressions {
    let flags = (flags != 0).then(|| number(NFTA_MASQ_FLAGS, flags));
    other("masq", flags.into_iter().collect())
}

/// Translates the destination to what the registers hold. `family` is NFPROTO_*.
pub(crate) fn dnat(family: u32, address: Register, port: Option<Register>) -> Expressions {
    let mut attributes = numbers(&[
        (NFTA_NAT_TYPE, DNAT),
        (NFTA_NAT_FAMILY, family),
        (NFTA_NAT_REG_ADDR_MIN, address.into()),
    ]);
    if let Some(port) = port {
        attributes.extend(numbers(&[
            (NFTA_NAT_REG_PROTO_MIN, port.into()),
            (NFTA_NAT_FLAGS, PROTO_SPECIFIED),
        ]));
    }
    other("nat", attributes)
}

/// It is a `dnat` of any shape.
pub(crate) fn is_dnat(expression: &Expressions) -> bool {
    matches!(expression, Expressions::Other { expression_type, attributes }
        if expression_type == "nat" && attributes.contains(&number(NFTA_NAT_TYPE, DNAT)))
}

/// The address that it loads for a translation.
pub(crate) fn immediate_address(expression: &Expressions) -> Option<IpAddr> {
    let Expressions::Immediate(parts) = expression else {
        return None;
    };
    parts.iter().find_map(|part| match part {
        Immediate::Data(DataAttribute::Value(data)) => <[u8; 4]>::try_from(&data[..])
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(&data[..]).map(IpAddr::from))
            .ok(),
        _ => None,
    })
}

/// It loads bytes of the packet from that offset.
pub(crate) fn loads(expression: &Expressions, header: u32, offset: u32) -> bool {
    matches!(expression, Expressions::Payload(parts)
        if parts.contains(&Payload::Base(header)) && parts.contains(&Payload::Offset(offset)))
}

/// The data that a comparison for equality compares with.
pub(crate) fn equal_to(expression: &Expressions) -> Option<&[u8]> {
    let Expressions::Cmp(parts) = expression else {
        return None;
    };
    match &parts[..] {
        [
            _,
            Cmp::Op(Operator::Equal),
            Cmp::Data(DataAttribute::Value(data)),
        ] => Some(data),
        _ => None,
    }
}

/// The chain that a verdict jumps to.
pub(crate) fn jump_target(expression: &Expressions) -> Option<&str> {
    let Expressions::Immediate(parts) = expression else {
        return None;
    };
    let [_, Immediate::Data(DataAttribute::Verdict(verdict))] = &parts[..] else {
        return None;
    };
    match &verdict[..] {
        [
            VerdictAttribute::Code(Verdict::Jump),
            VerdictAttribute::Chain(chain),
        ] => Some(chain),
        _ => None,
    }
}

pub(crate) fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
}

pub(crate) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn numbers(attributes: &[(u16, u32)]) -> Vec<DefaultNla> {
    let attributes = attributes.iter();
    attributes
        .map(|(kind, value)| number(*kind, *value))
        .collect()
}

fn value(data: &[u8]) -> DataAttribute {
    DataAttribute::Value(data.to_vec())
}

/// NFTA_DATA_VERDICT of a rule or of a map's element.
pub(crate) fn verdict_data(code: Verdict, chain: Option<&str>) -> DataAttribute {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.to_owned())));
    DataAttribute::Verdict(attributes)
}
