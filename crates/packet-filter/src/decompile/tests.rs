//! What is compiled, encoded, decoded and decompiled is what it was.

use super::*;
use crate::{Rule, compile::compile};
use linux_net::netlink::Attributes;
use netlink_packet_core::Emitable;
use proptest::prelude::*;

fn net(ipv6: bool) -> BoxedStrategy<IpNetwork> {
    let masked = |ip: IpAddr, prefix| {
        let net = IpNetwork::new(ip, prefix).unwrap();
        IpNetwork::new(net.network(), prefix).unwrap()
    };
    if ipv6 {
        (any::<[u8; 16]>(), 0..=128u8)
            .prop_map(move |(ip, prefix)| masked(ip.into(), prefix))
            .boxed()
    } else {
        (any::<[u8; 4]>(), 0..=32u8)
            .prop_map(move |(ip, prefix)| masked(ip.into(), prefix))
            .boxed()
    }
}

fn key() -> impl Strategy<Value = Vec<Field>> {
    let field = prop_oneof![
        prop::sample::select(Field::PLAIN.to_vec()),
        (0..=32u8).prop_map(Field::SaddrNet4),
        (0..=128u8).prop_map(Field::SaddrNet6),
    ];
    prop::collection::vec(field, 1..4)
}

fn statement(ipv6: bool) -> impl Strategy<Value = Statement> {
    let name = "[a-z][a-z0-9.]{0,14}";
    let ip = if ipv6 {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    };
    prop_oneof![
        (net(ipv6), any::<bool>()).prop_map(|(net, negated)| Statement::Saddr { net, negated }),
        (net(ipv6), any::<bool>()).prop_map(|(net, negated)| Statement::Daddr { net, negated }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Statement::Mark { value, mask }),
        any::<u32>().prop_map(|bits| Statement::SetMark { bits }),
        name.prop_map(Statement::Iifname),
        "[a-z]{1,14}\\*?".prop_map(Statement::Oifname),
        any::<(u8, u16)>().prop_map(|(protocol, port)| Statement::Dport { protocol, port }),
        any::<[u8; 6]>().prop_map(Statement::EtherSaddr),
        (ip, any::<Option<u16>>()).prop_map(|(ip, port)| Statement::Dnat { ip, port }),
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

fn comes_back(family: Family, statements: Vec<Statement>) -> Result<(), TestCaseError> {
    let rule = Rule {
        statements,
        comment: None,
    };
    let compiled = compile(family, &rule);
    // through the attributes too
    let decoded: Vec<_> = compiled
        .iter()
        .map(|expression| {
            let element = expression.encode();
            let mut bytes = vec![0; element.buffer_len()];
            element.emit(&mut bytes);
            Expression::decode(Attributes::new(&bytes).nested(1))
        })
        .collect();
    prop_assert_eq!(&decoded, &compiled);
    prop_assert_eq!(decompile(family, &decoded), rule.statements);
    Ok(())
}

proptest! {
    #[test]
    fn ip(statements in prop::collection::vec(statement(false), 0..5)) {
        comes_back(Family::Ip, statements)?;
    }

    #[test]
    fn ip6(statements in prop::collection::vec(statement(true), 0..5)) {
        comes_back(Family::Ip6, statements)?;
    }

    #[test]
    fn inet_and_bridge(
        bridge: bool,
        statements in prop::collection::vec(prop_oneof![statement(false), statement(true)], 0..5),
    ) {
        comes_back(if bridge { Family::Bridge } else { Family::Inet }, statements)?;
    }
}

#[test]
fn a_stranger_s_expression_is_unknown_and_hides_nothing_else() {
    let expressions = [
        Expression::Other("counter".into()),
        Expression::Verdict {
            code: ACCEPT,
            chain: None,
        },
    ];
    assert_eq!(
        decompile(Family::Ip, &expressions),
        [Statement::Unknown("counter".into()), Statement::Accept]
    );
}
