//! Reading the kernel's attributes as instructions in canonical form. An instruction of another
//! shape than any that `compile` emits keeps the attributes of the kernel: it equals no compiled
//! one, and it is written back unchanged.

use crate::expression::{
    MAP_IPS, NFTA_NAT_FAMILY, NFTA_NAT_FLAGS, NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_ADDR_MIN,
    NFTA_NAT_REG_PROTO_MAX, NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE, bitwise, compare, immediate,
    lookup, meta, number, other, payload, set_meta, verdict,
};
use linux_net::netlink::Attributes;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Cmp, DataAttribute, Expressions, Operator, Payload, Register, Verdict,
};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

/// The content of an NFTA_*_DATA.
#[derive(Debug, PartialEq)]
pub(crate) enum Data<'a> {
    Value(&'a [u8]),
    Verdict(Verdict, Option<&'a str>),
}

/// Reads NFTA_DATA_VALUE or NFTA_DATA_VERDICT.
pub(crate) fn data(attributes: Attributes<'_>) -> Option<Data<'_>> {
    if let Some(value) = attributes.get(NFTA_DATA_VALUE) {
        return Some(Data::Value(value));
    }
    let verdict = attributes.nested(NFTA_DATA_VERDICT);
    let code = verdict.u32_be(NFTA_VERDICT_CODE)?.into();
    Some(Data::Verdict(code, verdict.text(NFTA_VERDICT_CHAIN)))
}

/// The instructions of a rule, each as the attributes of its list element.
pub(crate) fn rule<'a>(elements: impl Iterator<Item = Attributes<'a>>) -> Vec<Expressions> {
    let mut expressions = Vec::new();
    for element in elements {
        expressions.push(expression(element));
        shorten(&mut expressions);
    }
    expressions
}

/// Replaces load, mask and comparison of whole bytes by load and comparison of these bytes alone.
/// nft writes the short form since 0.9.9, earlier versions the long one.
fn shorten(expressions: &mut Vec<Expressions>) {
    if let [.., load, mask, compare] = expressions.as_slice()
        && let Some(short) = shortened(load, mask, compare)
    {
        expressions.truncate(expressions.len() - 3);
        expressions.extend(short);
    }
}

fn shortened(
    load: &Expressions,
    mask: &Expressions,
    comparison: &Expressions,
) -> Option<[Expressions; 2]> {
    let (Expressions::Payload(load), Expressions::Cmp(comparison)) = (load, comparison) else {
        return None;
    };
    let [
        Payload::DestinationRegister(register),
        Payload::Base(header),
        Payload::Offset(offset),
        Payload::Len(len),
    ] = load[..]
    else {
        return None;
    };
    let [
        Cmp::SourceRegister(compared),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(data)),
    ] = &comparison[..]
    else {
        return None;
    };
    let keep = |bytes: usize| {
        let mut kept = vec![0; data.len()];
        kept.get_mut(..bytes)?.fill(u8::MAX);
        Some(bitwise(register, &kept, &vec![0; data.len()]))
    };
    let bytes = (1..=data.len()).find(|bytes| keep(*bytes).as_ref() == Some(mask))?;
    let (start, rest) = data.split_at(bytes);
    let same = *compared == register && data.len() == len as usize && rest.iter().all(|b| *b == 0);
    same.then(|| {
        [
            payload(header, offset, bytes as u32, register),
            compare(register, *operator, start),
        ]
    })
}

fn expression(element: Attributes<'_>) -> Expressions {
    let name = element.text(NFTA_EXPR_NAME).unwrap_or_default();
    let data = element.nested(NFTA_EXPR_DATA);
    known(name, data).unwrap_or_else(|| other(name, unchanged(data)))
}

/// All attributes, in order of type.
fn unchanged(data: Attributes<'_>) -> Vec<DefaultNla> {
    let mut attributes: Vec<_> = data.iter().collect();
    attributes.sort_by_key(|attribute| attribute.kind);
    attributes
        .into_iter()
        .map(|attribute| DefaultNla::new(attribute.kind, attribute.value.to_vec()))
        .collect()
}

/// The canonical form; None if there is none for this shape.
fn known(name: &str, data: Attributes<'_>) -> Option<Expressions> {
    let register = |kind| data.u32_be(kind).map(Register::from);
    match name {
        "payload" => packet_bytes(data),
        "bitwise" => mask_and_xor(data),
        "nat" => translation(data),
        "meta" => {
            let key = data.u32_be(NFTA_META_KEY)?.into();
            match (register(NFTA_META_SREG), register(NFTA_META_DREG)) {
                (None, Some(register)) => Some(meta(key, register)),
                (Some(register), None) => Some(set_meta(key, register)),
                _ => None,
            }
        }
        "cmp" => {
            let operator = Operator::from(data.u32_be(NFTA_CMP_OP)?);
            let bytes = value(data, NFTA_CMP_DATA)?;
            Some(compare(register(NFTA_CMP_SREG)?, operator, bytes))
        }
        "lookup" if data.u32_be(NFTA_LOOKUP_FLAGS).unwrap_or(0) == 0 => Some(lookup(
            data.text(NFTA_LOOKUP_SET)?,
            register(NFTA_LOOKUP_SREG)?,
            register(NFTA_LOOKUP_DREG),
        )),
        "immediate" => match self::data(data.nested(NFTA_IMMEDIATE_DATA))? {
            Data::Value(bytes) => Some(immediate(register(NFTA_IMMEDIATE_DREG)?, bytes)),
            Data::Verdict(code, chain) => Some(verdict(code, chain)),
        },
        _ => None,
    }
}

fn value(attributes: Attributes<'_>, kind: u16) -> Option<&[u8]> {
    match data(attributes.nested(kind))? {
        Data::Value(bytes) => Some(bytes),
        Data::Verdict(..) => None,
    }
}

/// It has attributes of these types and no others.
fn only(attributes: Attributes<'_>, kinds: &[u16]) -> bool {
    let mut attributes = attributes.iter();
    attributes.all(|attribute| kinds.contains(&attribute.kind))
}

/// A load; a write has a source register and a checksum.
fn packet_bytes(data: Attributes<'_>) -> Option<Expressions> {
    const LOAD: [u16; 4] = [
        NFTA_PAYLOAD_DREG,
        NFTA_PAYLOAD_BASE,
        NFTA_PAYLOAD_OFFSET,
        NFTA_PAYLOAD_LEN,
    ];
    let load = payload(
        data.u32_be(NFTA_PAYLOAD_BASE)?,
        data.u32_be(NFTA_PAYLOAD_OFFSET)?,
        data.u32_be(NFTA_PAYLOAD_LEN)?,
        data.u32_be(NFTA_PAYLOAD_DREG)?.into(),
    );
    only(data, &LOAD).then_some(load)
}

/// NFT_BITWISE_MASK_XOR (operation 0, the only one of older kernels), in place.
fn mask_and_xor(data: Attributes<'_>) -> Option<Expressions> {
    const MASK_XOR: [u16; 6] = [
        NFTA_BITWISE_SREG,
        NFTA_BITWISE_DREG,
        NFTA_BITWISE_LEN,
        NFTA_BITWISE_MASK,
        NFTA_BITWISE_XOR,
        NFTA_BITWISE_OP,
    ];
    let register = data.u32_be(NFTA_BITWISE_SREG)?;
    let in_place = only(data, &MASK_XOR)
        && data.u32_be(NFTA_BITWISE_DREG) == Some(register)
        && data.u32_be(NFTA_BITWISE_OP).unwrap_or(0) == 0;
    let mask = value(data, NFTA_BITWISE_MASK)?;
    let xor = value(data, NFTA_BITWISE_XOR)?;
    in_place.then(|| bitwise(register.into(), mask, xor))
}

/// Drops what the kernel adds: it shows a single value as a range from it to itself, and a flag for
/// the address.
fn translation(data: Attributes<'_>) -> Option<Expressions> {
    let single = |min, max| [None, data.get(min)].contains(&data.get(max));
    if !single(NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_ADDR_MAX)
        || !single(NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX)
    {
        return None;
    }
    let kinds = [
        NFTA_NAT_TYPE,
        NFTA_NAT_FAMILY,
        NFTA_NAT_REG_ADDR_MIN,
        NFTA_NAT_REG_PROTO_MIN,
    ];
    let mut attributes: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| Some(number(kind, data.u32_be(kind)?)))
        .collect();
    let flags = data.u32_be(NFTA_NAT_FLAGS).unwrap_or(0) & !MAP_IPS;
    attributes.extend((flags != 0).then(|| number(NFTA_NAT_FLAGS, flags)));
    Some(other("nat", attributes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Family, Field, Rule, Statement};
    use ipnetwork::IpNetwork;
    use netlink_packet_core::Emitable;
    use netlink_packet_netfilter::nftables::ListAttribute;
    use proptest::prelude::*;
    use std::net::IpAddr;

    /// Through the attributes and back.
    fn sent_and_read(expressions: &[Expressions]) -> Vec<Expressions> {
        let encoded: Vec<Vec<u8>> = expressions
            .iter()
            .map(|expression| {
                let element = ListAttribute::from(expression.clone());
                let mut bytes = vec![0; element.buffer_len()];
                element.emit(&mut bytes);
                bytes
            })
            .collect();
        rule(encoded.iter().map(|bytes| Attributes::new(bytes).nested(1)))
    }

    fn address(ipv6: bool) -> BoxedStrategy<IpAddr> {
        match ipv6 {
            true => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
            false => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        }
    }

    fn net(ipv6: bool) -> impl Strategy<Value = IpNetwork> {
        let longest: u8 = if ipv6 { 128 } else { 32 };
        (address(ipv6), 0..=longest).prop_map(|(ip, prefix)| {
            let net = IpNetwork::new(ip, prefix).unwrap();
            IpNetwork::new(net.network(), prefix).unwrap()
        })
    }

    fn key() -> impl Strategy<Value = Vec<Field>> {
        let plain = [
            Field::Saddr4,
            Field::Daddr4,
            Field::Saddr6,
            Field::Daddr6,
            Field::L4Proto,
            Field::Dport,
            Field::Iifname,
        ];
        let field = prop_oneof![
            prop::sample::select(plain.to_vec()),
            (0..=32u8).prop_map(Field::SaddrNet4),
            (0..=128u8).prop_map(Field::SaddrNet6),
        ];
        prop::collection::vec(field, 1..4)
    }

    fn statement(ipv6: bool) -> impl Strategy<Value = Statement> {
        let name = "[a-z][a-z0-9.]{0,14}";
        prop_oneof![
            (net(ipv6), any::<bool>()).prop_map(|(net, negated)| Statement::Saddr { net, negated }),
            (net(ipv6), any::<bool>()).prop_map(|(net, negated)| Statement::Daddr { net, negated }),
            any::<(u32, u32)>().prop_map(|(value, mask)| Statement::Mark { value, mask }),
            any::<u32>().prop_map(|bits| Statement::SetMark { bits }),
            name.prop_map(Statement::Iifname),
            "[a-z]{1,14}\\*?".prop_map(Statement::Oifname),
            any::<(u8, u16)>().prop_map(|(protocol, port)| Statement::Dport { protocol, port }),
            any::<[u8; 6]>().prop_map(Statement::EtherSaddr),
            (address(ipv6), any::<Option<u16>>())
                .prop_map(|(ip, port)| Statement::Dnat { ip, port }),
            (key(), name).prop_map(|(key, set)| Statement::InSet { key, set }),
            (key(), name).prop_map(|(key, map)| Statement::VerdictMap { key, map }),
            (key(), name).prop_map(move |(key, map)| Statement::DnatMap { key, map, ipv6 }),
            name.prop_map(Statement::Jump),
            name.prop_map(Statement::Goto),
            prop::sample::select(vec![
                Statement::FibDaddrLocal,
                Statement::CtEstablished,
                Statement::CtDnat,
                Statement::Masquerade {
                    fully_random: false
                },
                Statement::Masquerade { fully_random: true },
                Statement::Return,
                Statement::Accept,
                Statement::Drop,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn compiled_rules_are_read_as_they_are(
            family in prop::sample::select(vec![Family::Ip, Family::Ip6, Family::Inet, Family::Bridge]),
            statements in prop::collection::vec(prop_oneof![statement(false), statement(true)], 0..5),
        ) {
            let rule = Rule::new(family, &statements);
            prop_assert_eq!(sent_and_read(&rule.expressions), rule.expressions);
        }

        #[test]
        fn a_rule_contains_its_statement(statement in statement(false), others in prop::collection::vec(statement(true), 0..2)) {
            let statements = [&others[..], std::slice::from_ref(&statement)].concat();
            let rule = Rule::new(Family::Inet, &statements);
            let ports = |one: &Statement| matches!(one, Statement::Dport { .. });
            prop_assume!(statements.iter().filter(|one| ports(one)).count() < 2);
            prop_assert!(rule.contains(&statement));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(rule([Attributes::new(&bytes)].into_iter()).len(), 1);
        }
    }

    #[test]
    fn masked_bytes_equal_the_short_form() {
        let register = Register::Reg1;
        let long = |mask: [u8; 4], data: [u8; 4]| {
            sent_and_read(&[
                payload(1, 12, 4, register),
                bitwise(register, &mask, &[0; 4]),
                compare(register, Operator::NotEqual, &data),
            ])
        };
        let saddr = |text: &str| {
            let net = text.parse().unwrap();
            let negated = true;
            Rule::new(Family::Ip, &[Statement::Saddr { net, negated }]).expressions
        };
        let address = long([255; 4], [10, 1, 2, 3]);
        assert_eq!(address, saddr("10.1.2.3/32"));
        assert_eq!(long([255, 255, 0, 0], [10, 1, 0, 0]), saddr("10.1.0.0/16"));
        assert_eq!(long([255, 254, 0, 0], [10, 2, 0, 0]), saddr("10.2.0.0/15"));
        // bits behind the mask: never equal, so nothing is shortened
        assert_eq!(long([255, 255, 0, 0], [10, 1, 0, 1]).len(), 3);
    }

    #[test]
    fn what_the_kernel_adds_to_a_translation_makes_no_difference() {
        let ours = |port| {
            let ip = [10, 1, 2, 3].into();
            let rule = Rule::new(Family::Ip, &[Statement::Dnat { ip, port }]);
            rule.expressions.last().cloned().unwrap()
        };
        let shown = |flags, numbers: &[(u16, u32)]| {
            let mut attributes: Vec<_> = numbers
                .iter()
                .map(|(kind, value)| number(*kind, *value))
                .collect();
            attributes.push(number(NFTA_NAT_FLAGS, flags));
            sent_and_read(&[other("nat", attributes)])
        };
        let address = [(1, 1), (2, 2), (3, 1), (4, 1)];
        assert_eq!(shown(1, &address), [ours(None)]);
        let port = [&address[..], &[(5, 2), (6, 2)]].concat();
        assert_eq!(shown(3, &port), [ours(Some(80))]);
        let range = [(1, 1), (2, 2), (3, 1), (4, 2)];
        assert_ne!(shown(1, &range), [ours(None)]);
        let persistent = 8;
        assert_ne!(shown(1 | persistent, &address), [ours(None)]);
    }

    #[test]
    fn unknown_shapes_stay_as_they_are() {
        let counter = other("counter", vec![number(2, 7), number(1, 9)]);
        let read = sent_and_read(&[counter]);
        assert_eq!(read, [other("counter", vec![number(1, 9), number(2, 7)])]);
        assert_eq!(sent_and_read(&read), read);
        let inverted = other("lookup", vec![number(NFTA_LOOKUP_FLAGS, 1)]);
        assert_eq!(sent_and_read(std::slice::from_ref(&inverted)), [inverted]);
    }
}
