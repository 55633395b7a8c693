//! nftables by netlink: `nft` is the judge of what we write, and what we read back must be what we wrote.

use std::{net::IpAddr, os::fd::AsFd};

use ipnetwork::IpNetwork;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use packet_filter::{
    BaseChain, Chain, ChainType, DataType, Element, Family, Field, Hook, Nft, NftMonitor, Part,
    Rule, Set, Statement, Table, Transaction, Value, ValueType,
};
use tests::{Case, Host, case};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("packet_filter/flannel-table", flannel_table),
        case("packet_filter/shapes-as-nft-writes-them", shapes),
        case("packet_filter/reads-what-nft-wrote", reads_nft),
        case("packet_filter/sets-and-maps", sets),
        case("packet_filter/all-or-nothing", all_or_nothing),
        case("packet_filter/foreign-tables-stay", foreign),
        case("packet_filter/monitor", monitor),
        case("packet_filter/large-transaction", large),
    ]
}

fn net(text: &str) -> IpNetwork {
    text.parse().expect("network")
}

fn saddr(text: &str) -> Statement {
    Statement::Saddr {
        net: net(text),
        negated: false,
    }
}

fn daddr(text: &str) -> Statement {
    Statement::Daddr {
        net: net(text),
        negated: false,
    }
}

fn not(statement: Statement) -> Statement {
    match statement {
        Statement::Saddr { net, negated } => Statement::Saddr {
            net,
            negated: !negated,
        },
        Statement::Daddr { net, negated } => Statement::Daddr {
            net,
            negated: !negated,
        },
        other => panic!("{other:?} cannot be negated"),
    }
}

fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule {
        statements: statements.into_iter().collect(),
        comment: None,
    }
}

fn base(chain_type: ChainType, hook: Hook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain {
        chain_type,
        hook,
        priority,
        accept: true,
    })
}

fn chain(name: &str, base: Option<BaseChain>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        comment: None,
        base,
        rules,
    }
}

/// The table of flanneld, in both families.
fn flannel(family: Family) -> Table {
    let (name, mine, cluster, multicast) = match family {
        Family::Ip => (
            "flannel-ipv4",
            "10.244.1.0/24",
            "10.244.0.0/16",
            "224.0.0.0/4",
        ),
        _ => (
            "flannel-ipv6",
            "fd00:10:244:1::/64",
            "fd00:10:244::/48",
            "ff00::/8",
        ),
    };
    let masquerade = || Statement::Masquerade { fully_random: true };
    let postrtg = vec![
        rule([
            Statement::Mark {
                value: 0x4000,
                mask: u32::MAX,
            },
            Statement::Return,
        ]),
        rule([saddr(mine), daddr(cluster), Statement::Return]),
        rule([saddr(cluster), daddr(mine), Statement::Return]),
        rule([not(saddr(mine)), daddr(cluster), Statement::Return]),
        rule([saddr(cluster), not(daddr(multicast)), masquerade()]),
        rule([not(saddr(cluster)), daddr(cluster), masquerade()]),
    ];
    let forward = vec![
        rule([saddr(cluster), Statement::Accept]),
        rule([daddr(cluster), Statement::Accept]),
    ];
    let mut postrtg = chain(
        "postrtg",
        base(ChainType::Nat, Hook::Postrouting, 100),
        postrtg,
    );
    postrtg.comment = Some("chain to manage traffic masquerading by flannel".into());
    let mut forward = chain(
        "forward",
        base(ChainType::Filter, Hook::Forward, 0),
        forward,
    );
    forward.comment = Some("chain to accept flannel traffic".into());
    Table {
        family,
        name: name.into(),
        comment: Some(format!("rules for {name}")),
        chains: vec![postrtg, forward],
    }
}

fn flannel_table() {
    let host = Host::new("node");
    for _ in 0..2 {
        host.run(|| {
            let mut transaction = Transaction::new();
            for family in [Family::Ip, Family::Ip6] {
                transaction.set_table(&flannel(family));
            }
            let mut nft = Nft::open().expect("open");
            nft.commit(&transaction).expect("commit");
            for family in [Family::Ip, Family::Ip6] {
                let wanted = flannel(family);
                assert_eq!(nft.table(family, &wanted.name).expect("read"), Some(wanted));
            }
            assert_eq!(nft.table(Family::Ip, "flannel-ipv6").expect("read"), None);
        });
    }
    assert_eq!(
        host.sh("nft list table ip flannel-ipv4"),
        r#"table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr != 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
	}
}
"#
    );
    let ipv6 = host.sh("nft list table ip6 flannel-ipv6");
    assert!(
        ipv6.contains("ip6 saddr != fd00:10:244:1::/64 ip6 daddr fd00:10:244::/48 return"),
        "{ipv6}"
    );
    assert!(
        ipv6.contains("ip6 daddr != ff00::/8 masquerade fully-random"),
        "{ipv6}"
    );

    // somebody's hand: seen as different, and put right again
    host.sh(
        "nft delete chain ip flannel-ipv4 forward; nft insert rule ip flannel-ipv4 postrtg counter",
    );
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let wanted = flannel(Family::Ip);
        let found = nft.table(Family::Ip, &wanted.name).expect("read");
        assert_ne!(found.as_ref(), Some(&wanted));
        let postrtg = &found.expect("table").chains[0];
        assert_eq!(
            postrtg.rules[0].statements,
            [Statement::Unknown("counter".into())]
        );
        assert_eq!(postrtg.rules[1..], wanted.chains[0].rules);
        let mut transaction = Transaction::new();
        nft.commit(transaction.set_table(&wanted)).expect("repair");
        assert_eq!(
            nft.table(Family::Ip, &wanted.name).expect("read"),
            Some(wanted)
        );
    });
}

/// Each statement beside the words that `nft` has for it.
fn every_statement() -> Vec<(&'static str, Rule)> {
    let dport = |protocol| Statement::Dport {
        protocol,
        port: 8080,
    };
    let dnat = |ip: &str, port| Statement::Dnat {
        ip: ip.parse().expect("address"),
        port,
    };
    vec![
        (
            "ip saddr 10.1.2.3 accept",
            rule([saddr("10.1.2.3/32"), Statement::Accept]),
        ),
        (
            "ip saddr 10.128.0.0/9 drop",
            rule([saddr("10.128.0.0/9"), Statement::Drop]),
        ),
        (
            "ip daddr 0.0.0.0/0 accept",
            rule([daddr("0.0.0.0/0"), Statement::Accept]),
        ),
        (
            "meta mark & 0x00002000 == 0x00002000 accept",
            rule([
                Statement::Mark {
                    value: 0x2000,
                    mask: 0x2000,
                },
                Statement::Accept,
            ]),
        ),
        (
            "meta mark set meta mark | 0x00002000",
            rule([Statement::SetMark { bits: 0x2000 }]),
        ),
        (
            "iifname \"eth0\" accept",
            rule([Statement::Iifname("eth0".into()), Statement::Accept]),
        ),
        (
            "oifname \"cali*\" accept",
            rule([Statement::Oifname("cali*".into()), Statement::Accept]),
        ),
        (
            "fib daddr type local jump other",
            rule([Statement::FibDaddrLocal, Statement::Jump("other".into())]),
        ),
        (
            "ct state established,related accept",
            rule([Statement::CtEstablished, Statement::Accept]),
        ),
        (
            "ct status dnat goto other",
            rule([Statement::CtDnat, Statement::Goto("other".into())]),
        ),
        (
            "tcp dport 8080 dnat to 10.1.2.3:80",
            rule([dport(6), dnat("10.1.2.3", Some(80))]),
        ),
        (
            "ip daddr 192.0.2.1 udp dport 8080 dnat to 10.1.2.3:80",
            rule([daddr("192.0.2.1/32"), dport(17), dnat("10.1.2.3", Some(80))]),
        ),
        (
            "sctp dport 8080 dnat to 10.1.2.3",
            rule([dport(132), dnat("10.1.2.3", None)]),
        ),
    ]
}

fn shapes() {
    let host = Host::new("node");
    host.run(|| {
        let mut rules: Vec<_> = every_statement()
            .into_iter()
            .map(|(_, rule)| rule)
            .collect();
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.comment = Some(format!("number {number}"));
        }
        let table = Table {
            family: Family::Ip,
            name: "shapes".into(),
            comment: None,
            chains: vec![
                chain("other", None, Vec::new()),
                chain("every", base(ChainType::Nat, Hook::Prerouting, -100), rules),
            ],
        };
        let mut nft = Nft::open().expect("open");
        nft.commit(Transaction::new().set_table(&table))
            .expect("commit");
        assert_eq!(nft.table(Family::Ip, "shapes").expect("read"), Some(table));
    });
    let list = host.sh("nft list chain ip shapes every");
    let lines: Vec<_> = list.lines().map(str::trim).collect();
    for (number, (words, _)) in every_statement().iter().enumerate() {
        let line = format!("{words} comment \"number {number}\"");
        assert!(lines.contains(&line.as_str()), "{line}\nis not in\n{list}");
    }
    // what nft makes of its own words is the same, instruction for instruction
    let mut script = String::from(
        "add table ip theirs\nadd chain ip theirs other\n\
        add chain ip theirs every { type nat hook prerouting priority -100; policy accept; }\n",
    );
    for (number, (words, _)) in every_statement().iter().enumerate() {
        script += &format!("add rule ip theirs every {words} comment \"number {number}\"\n");
    }
    host.sh(&format!("nft -f - <<'END'\n{script}\nEND"));
    let instructions = |table: &str| {
        let text = host.sh(&format!("nft --debug=netlink list chain ip {table} every"));
        let lines = text.lines().filter(|line| line.starts_with("  "));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(instructions("shapes"), instructions("theirs"));
}

/// Other families, and tables that only `nft` wrote.
fn reads_nft() {
    let host = Host::new("node");
    host.sh("nft -f - <<'END'
table inet cni_plugins_masquerade {
    comment \"Masquerading for plugins from github.com/containernetworking/plugins\"
    chain masq_checks {
        ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment \"0123456789abcdef-fedcba9876543210, net: a, if: eth0, id: b\"
        ip6 saddr fd00::3 ip6 daddr != fd00::/64 masquerade
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr == 224.0.0.0/4 return
        ip6 daddr == ff00::/8 return
        goto masq_checks
    }
}
table bridge nat {
    chain cni-br-iface-x-mac {
        ether saddr 02:11:22:33:44:55 return comment \"macspoofchk-x\"
        drop
    }
    chain PREROUTING {
        type filter hook prerouting priority -300; policy accept;
        iifname \"veth0\" jump cni-br-iface-x-mac comment \"macspoofchk-x\"
        ip saddr 10.1.2.3 accept
    }
}
END");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let masquerade = nft
            .table(Family::Inet, "cni_plugins_masquerade")
            .expect("read")
            .expect("table");
        let plain = Statement::Masquerade {
            fully_random: false,
        };
        assert_eq!(
            masquerade.chains[0].rules,
            [
                Rule {
                    statements: vec![
                        saddr("10.1.2.3/32"),
                        not(daddr("10.1.2.0/24")),
                        plain.clone()
                    ],
                    comment: Some(
                        "0123456789abcdef-fedcba9876543210, net: a, if: eth0, id: b".into()
                    ),
                },
                rule([saddr("fd00::3/128"), not(daddr("fd00::/64")), plain]),
            ]
        );
        assert_eq!(
            masquerade.chains[1],
            chain(
                "postrouting",
                base(ChainType::Nat, Hook::Postrouting, 100),
                vec![
                    rule([daddr("224.0.0.0/4"), Statement::Return]),
                    rule([daddr("ff00::/8"), Statement::Return]),
                    rule([Statement::Goto("masq_checks".into())]),
                ]
            )
        );
        let spoof = nft
            .table(Family::Bridge, "nat")
            .expect("read")
            .expect("table");
        assert_eq!(
            spoof.chains[0].rules[0].statements,
            [
                Statement::EtherSaddr([2, 0x11, 0x22, 0x33, 0x44, 0x55]),
                Statement::Return
            ]
        );
        assert_eq!(
            spoof.chains[1].rules[1],
            rule([saddr("10.1.2.3/32"), Statement::Accept])
        );

        // written again by us, they are listed the same
        let mut transaction = Transaction::new();
        for table in [&masquerade, &spoof] {
            transaction.delete_table(table.family, &table.name);
            transaction.set_table(table);
        }
        nft.commit(&transaction).expect("commit");
        for table in [masquerade, spoof] {
            let again = nft.table(table.family, &table.name).expect("read");
            assert_eq!(again, Some(table));
        }
    });
    let list = host.sh("nft list ruleset");
    for words in [
        "ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment \"0123456789abcdef-",
        "ip6 saddr fd00::3 ip6 daddr != fd00::/64 masquerade",
        "ip6 daddr ff00::/8 return",
        "ether saddr 02:11:22:33:44:55 return comment \"macspoofchk-x\"",
        "iifname \"veth0\" jump cni-br-iface-x-mac comment",
        "type filter hook prerouting priority dstnat; policy accept;",
    ] {
        assert!(list.contains(words), "{words}\nis not in\n{list}");
    }
}

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

fn sets() {
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
            rule([Statement::DnatMap {
                key: vec![Field::L4Proto, Field::Dport],
                map: "ports".into(),
                ipv6: false,
            }]),
            rule([
                Statement::InSet {
                    key: vec![Field::Saddr4, Field::Daddr4],
                    set: "hairpin".into(),
                },
                Statement::Accept,
            ]),
            rule([Statement::VerdictMap {
                key: vec![Field::Saddr4],
                map: "pods".into(),
            }]),
            rule([
                Statement::InSet {
                    key: vec![Field::SaddrNet4(23), Field::Daddr4],
                    set: "hairpin".into(),
                },
                Statement::Drop,
            ]),
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
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        // the same key again, even with the same value: nobody's element is taken over unseen
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

fn all_or_nothing() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let before = nft.generation().expect("generation");
        let mut transaction = Transaction::new();
        transaction.set_table(&flannel(Family::Ip));
        transaction.append(
            Family::Ip,
            "flannel-ipv4",
            "forward",
            &rule([Statement::Jump("nowhere".into())]),
        );
        let error = nft.commit(&transaction).expect_err("no such chain");
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        assert!(
            error
                .to_string()
                .starts_with("add rule ip flannel-ipv4 forward: "),
            "{error}"
        );
        assert_eq!(nft.table(Family::Ip, "flannel-ipv4").expect("read"), None);
        assert_eq!(nft.generation().expect("generation"), before);

        // what we cannot read is not written as something else
        let unknown = rule([Statement::Unknown("no such expression".into())]);
        let mut transaction = Transaction::new();
        transaction.set_table(&Table {
            chains: vec![chain("c", None, vec![unknown])],
            ..flannel(Family::Ip)
        });
        assert!(nft.commit(&transaction).is_err());

        // only if nobody was faster
        let mut transaction = Transaction::new();
        transaction.only_if(before).set_table(&flannel(Family::Ip));
        nft.commit(&transaction).expect("nobody was");
        let error = nft.commit(&transaction).expect_err("we were");
        assert_eq!(error.errno(), Some(Errno::ERESTART), "{error}");
        assert!(nft.commit(&Transaction::new()).is_ok());
    });
}

fn foreign() {
    let host = Host::new("node");
    host.sh("nft -f - <<'END'
table ip strangers { chain c { type filter hook input priority 0; policy accept; tcp dport { 1, 2 } counter drop; }
}
table netdev edge { chain c { type filter hook ingress device lo priority 0; policy accept; }
}
END");
    let strangers = || host.sh("nft list table ip strangers; nft list table netdev edge");
    let before = strangers();
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let mut transaction = Transaction::new();
        nft.commit(transaction.set_table(&flannel(Family::Ip)))
            .expect("commit");
        assert_eq!(
            nft.tables().expect("tables"),
            [
                (Family::Ip, "strangers".to_owned()),
                (Family::Ip, "flannel-ipv4".to_owned())
            ]
        );
        nft.commit(Transaction::new().delete_table(Family::Ip, "flannel-ipv4"))
            .expect("delete");
    });
    assert_eq!(strangers(), before);
    assert!(!host.sh("nft list ruleset").contains("flannel"));
}

fn monitor() {
    let host = Host::new("node");
    host.run(|| {
        let mut monitor = NftMonitor::open().expect("open");
        assert_eq!(monitor.changed().expect("read"), Some(Vec::new()));
        let mut nft = Nft::open().expect("open");
        let mut transaction = Transaction::new();
        for family in [Family::Ip, Family::Ip6] {
            transaction.set_table(&flannel(family));
        }
        nft.commit(&transaction).expect("commit");
        let wait = |monitor: &NftMonitor| {
            let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(2000u16)).expect("poll")
        };
        assert_eq!(wait(&monitor), 1, "woken by a change");
        assert_eq!(
            monitor.changed().expect("read"),
            Some(vec![
                (Family::Ip, "flannel-ipv4".to_owned()),
                (Family::Ip6, "flannel-ipv6".to_owned())
            ])
        );
        assert_eq!(monitor.changed().expect("read"), Some(Vec::new()));
        nft.commit(Transaction::new().flush_chain(Family::Ip6, "flannel-ipv6", "forward"))
            .expect("flush");
        assert_eq!(wait(&monitor), 1);
        assert_eq!(
            monitor.changed().expect("read"),
            Some(vec![(Family::Ip6, "flannel-ipv6".to_owned())])
        );
    });
}

/// More than fits the socket's usual buffer, or one attribute.
fn large() {
    let host = Host::new("node");
    host.run(|| {
        let mut nft = Nft::open().expect("open");
        let elements: Vec<_> = (1..=2000).map(|number| port(number, "many")).collect();
        let mut transaction = Transaction::new();
        transaction
            .add_table(Family::Ip, "t", None)
            .add_set(Family::Ip, "t", &ports_map())
            .create_elements(Family::Ip, "t", "ports", &elements);
        nft.commit(&transaction).expect("commit");
        let mut read = nft.elements(Family::Ip, "t", &ports_map()).expect("read");
        read.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(read, elements);
    });
}
