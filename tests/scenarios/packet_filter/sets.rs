//! Sets and maps, and their elements.

use super::fixtures::*;
use packet_filter::{
    ChainType, DataType, Element, Family, Field, Hook, Nft, Part, Set, Statement, Transaction,
    Value, ValueType,
};
use std::net::IpAddr;
use tests::{Host, scenario};

fn ports_map() -> Set {
    Set {
        name: "ports".into(),
        key: vec![DataType::InetProto, DataType::InetService],
        value: Some(ValueType::Data(vec![
            DataType::Ipv4Addr,
            DataType::InetService,
        ])),
        comment: Some("where host ports lead".into()),
    }
}

fn port(number: u16, comment: &str) -> Element {
    let ip: IpAddr = "10.1.2.3".parse().expect("address");
    Element {
        key: vec![Part::Protocol(6), Part::Port(number)],
        value: Some(Value::Data(vec![Part::Ip(ip), Part::Port(80)])),
        comment: Some(comment.into()),
    }
}

#[scenario]
fn elements_of_sets_and_maps_are_read_back() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let owners = Set {
            name: "pods".into(),
            key: vec![DataType::Ipv4Addr],
            value: Some(ValueType::Verdict),
            comment: None,
        };
        let pairs = Set {
            name: "hairpin".into(),
            key: vec![DataType::Ipv4Addr, DataType::Ipv4Addr],
            value: None,
            comment: None,
        };
        let ip = |text: &str| Part::Ip(text.parse().expect("address"));
        let pair = Element {
            key: vec![ip("10.1.2.3"), ip("10.1.2.3")],
            value: None,
            comment: Some("a pod".into()),
        };
        let to_chain = Element {
            key: vec![ip("10.1.2.3")],
            value: Some(Value::Jump("other".into())),
            comment: None,
        };
        let mut transaction = Transaction::new();
        transaction.add_table(Family::Ip, "t", None);
        for name in ["other", "every"] {
            let base = (name == "every").then(|| base(ChainType::Nat, Hook::Prerouting, -99));
            transaction.add_chain(Family::Ip, "t", &chain(name, base.flatten(), Vec::new()));
        }
        for set in [&ports_map(), &owners, &pairs] {
            transaction.add_set(Family::Ip, "t", set);
        }
        let rules = [
            rule(
                Family::Ip,
                [Statement::DnatMap {
                    key: vec![Field::L4Proto, Field::Dport],
                    map: "ports".into(),
                    ipv6: false,
                }],
            ),
            rule(
                Family::Ip,
                [
                    Statement::InSet {
                        key: vec![Field::Saddr4, Field::Daddr4],
                        set: "hairpin".into(),
                    },
                    Statement::Accept,
                ],
            ),
            rule(
                Family::Ip,
                [Statement::VerdictMap {
                    key: vec![Field::Saddr4],
                    map: "pods".into(),
                }],
            ),
            rule(
                Family::Ip,
                [
                    Statement::InSet {
                        key: vec![Field::SaddrNet4(23), Field::Daddr4],
                        set: "hairpin".into(),
                    },
                    Statement::Drop,
                ],
            ),
        ];
        for rule in &rules {
            transaction.append(Family::Ip, "t", "every", rule);
        }
        transaction.create_elements(Family::Ip, "t", "ports", &[port(8080, "first")]);
        transaction.create_elements(Family::Ip, "t", "hairpin", std::slice::from_ref(&pair));
        transaction.create_elements(Family::Ip, "t", "pods", std::slice::from_ref(&to_chain));
        nft.commit(&transaction).expect("commit");

        let read: Vec<_> = nft
            .rules(Family::Ip, "t", Some("every"))
            .expect("rules")
            .into_iter()
            .map(|installed| installed.rule)
            .collect();
        assert_eq!(read, rules);
        let mut elements = |set: &Set| nft.elements(Family::Ip, "t", set).expect("elements");
        assert_eq!(elements(&ports_map()), [port(8080, "first")]);
        assert_eq!(elements(&pairs), [pair]);
        assert_eq!(elements(&owners), [to_chain]);
        let absent = Set {
            name: "absent".into(),
            ..ports_map()
        };
        assert_eq!(elements(&absent), []);
    });
    let list = host.sh("nft list table ip t");
    for words in [
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "comment \"where host ports lead\"",
        "elements = { tcp . 8080 comment \"first\" : 10.1.2.3 . 80 }",
        "elements = { 10.1.2.3 . 10.1.2.3 comment \"a pod\" }",
        "elements = { 10.1.2.3 : jump other }",
        "dnat ip to meta l4proto . th dport map @ports",
        "ip saddr . ip daddr @hairpin accept",
        "ip saddr vmap @pods",
        "ip saddr & 255.255.254.0 . ip daddr @hairpin drop",
    ] {
        assert!(list.contains(words), "{words}\nis not in\n{list}");
    }
}

#[scenario]
fn existing_element_is_not_replaced() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let mut transaction = Transaction::new();
        transaction
            .add_table(Family::Ip, "t", None)
            .add_set(Family::Ip, "t", &ports_map())
            .create_elements(Family::Ip, "t", "ports", &[port(8080, "first")]);
        nft.commit(&transaction).expect("commit");
        // an element with the same key is never replaced, even by one with the same value
        let error = nft
            .commit(Transaction::new().create_elements(
                Family::Ip,
                "t",
                "ports",
                &[port(8080, "second")],
            ))
            .expect_err("there is one");
        assert!(error.is_exists(), "{error}");
        nft.commit(
            Transaction::new()
                .delete_elements(Family::Ip, "t", "ports", &[port(8080, "")])
                .create_elements(Family::Ip, "t", "ports", &[port(8080, "second")]),
        )
        .expect("replace");
        assert_eq!(
            nft.elements(Family::Ip, "t", &ports_map()).expect("read"),
            [port(8080, "second")]
        );
        let error = nft
            .commit(Transaction::new().delete_elements(Family::Ip, "t", "ports", &[port(9999, "")]))
            .expect_err("there is none");
        assert!(error.is_absent(), "{error}");
    });
}

/// More than the socket's default buffer or one attribute holds. The kernel resizes the set's hash
/// table while it is read.
#[scenario]
fn large_set_is_written_and_read_whole() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let elements: Vec<_> = (1..=2000).map(|number| port(number, "many")).collect();
        for round in 0..20 {
            nft.commit(
                Transaction::new()
                    .add_table(Family::Ip, "t", None)
                    .add_set(Family::Ip, "t", &ports_map())
                    .create_elements(Family::Ip, "t", "ports", &elements),
            )
            .expect("commit");
            let read = nft.elements(Family::Ip, "t", &ports_map()).expect("read");
            assert_eq!(read, elements, "round {round}");
            nft.commit(Transaction::new().delete_table(Family::Ip, "t"))
                .expect("delete");
        }
    });
}
