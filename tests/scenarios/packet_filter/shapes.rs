//! Rules: `nft` lists ours as statements, and compiles these to the same instructions.

use super::fixtures::*;
use packet_filter::{ChainType, Family, Hook, Nft, Rule, Statement, Table, Transaction};
use tests::{Host, scenario};

/// Each rule with its text in `nft`.
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
            rule(Family::Ip, [saddr("10.1.2.3/32"), Statement::Accept]),
        ),
        (
            "ip saddr 10.128.0.0/9 drop",
            rule(Family::Ip, [saddr("10.128.0.0/9"), Statement::Drop]),
        ),
        (
            "ip daddr 0.0.0.0/0 accept",
            rule(Family::Ip, [daddr("0.0.0.0/0"), Statement::Accept]),
        ),
        (
            "meta mark & 0x00002000 == 0x00002000 accept",
            rule(
                Family::Ip,
                [
                    Statement::Mark {
                        value: 0x2000,
                        mask: 0x2000,
                    },
                    Statement::Accept,
                ],
            ),
        ),
        (
            "meta mark set meta mark | 0x00002000",
            rule(Family::Ip, [Statement::SetMark { bits: 0x2000 }]),
        ),
        (
            "iifname \"eth0\" accept",
            rule(
                Family::Ip,
                [Statement::Iifname("eth0".into()), Statement::Accept],
            ),
        ),
        (
            "oifname \"cali*\" accept",
            rule(
                Family::Ip,
                [Statement::Oifname("cali*".into()), Statement::Accept],
            ),
        ),
        (
            "fib daddr type local jump other",
            rule(
                Family::Ip,
                [Statement::FibDaddrLocal, Statement::Jump("other".into())],
            ),
        ),
        (
            "ct state established,related accept",
            rule(Family::Ip, [Statement::CtEstablished, Statement::Accept]),
        ),
        (
            "ct status dnat goto other",
            rule(
                Family::Ip,
                [Statement::CtDnat, Statement::Goto("other".into())],
            ),
        ),
        (
            "tcp dport 8080 dnat to 10.1.2.3:80",
            rule(Family::Ip, [dport(6), dnat("10.1.2.3", Some(80))]),
        ),
        (
            "ip daddr 192.0.2.1 udp dport 8080 dnat to 10.1.2.3:80",
            rule(
                Family::Ip,
                [daddr("192.0.2.1/32"), dport(17), dnat("10.1.2.3", Some(80))],
            ),
        ),
        (
            "sctp dport 8080 dnat to 10.1.2.3",
            rule(Family::Ip, [dport(132), dnat("10.1.2.3", None)]),
        ),
    ]
}

#[scenario]
fn rules_are_compiled_as_nft_compiles_them() {
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
            dormant: false,
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
    // nft compiles the texts to the same instructions
    let mut script = String::from(
        "add table ip by_nft\nadd chain ip by_nft other\n\
        add chain ip by_nft every { type nat hook prerouting priority -100; policy accept; }\n",
    );
    for (number, (words, _)) in every_statement().iter().enumerate() {
        script += &format!("add rule ip by_nft every {words} comment \"number {number}\"\n");
    }
    host.sh(&format!("nft -f - <<'END'\n{script}\nEND"));
    let instructions = |table: &str| {
        let text = host.sh(&format!("nft --debug=netlink list chain ip {table} every"));
        let lines = text.lines().filter(|line| line.starts_with("  "));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(instructions("shapes"), instructions("by_nft"));
}

/// Other families, and tables that only `nft` wrote.
#[scenario]
fn rules_written_by_nft_equal_ours() {
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
        let tables = [masquerade_table(), spoof_table()];
        for table in &tables {
            let read = nft.table(table.family, &table.name).expect("read");
            assert_eq!(read.as_ref(), Some(table));
        }

        // written by us, they are listed the same
        let mut transaction = Transaction::new();
        for table in &tables {
            transaction.delete_table(table.family, &table.name);
            transaction.set_table(table);
        }
        nft.commit(&transaction).expect("commit");
        for table in tables {
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

fn masquerade_table() -> Table {
    let rule = |statements: &[Statement]| Rule::new(Family::Inet, statements);
    let masquerade = || Statement::Masquerade {
        fully_random: false,
    };
    let checks = vec![
        rule(&[
            saddr("10.1.2.3/32"),
            not(daddr("10.1.2.0/24")),
            masquerade(),
        ])
        .with_comment("0123456789abcdef-fedcba9876543210, net: a, if: eth0, id: b"),
        rule(&[saddr("fd00::3/128"), not(daddr("fd00::/64")), masquerade()]),
    ];
    let postrouting = vec![
        rule(&[daddr("224.0.0.0/4"), Statement::Return]),
        rule(&[daddr("ff00::/8"), Statement::Return]),
        rule(&[Statement::Goto("masq_checks".into())]),
    ];
    let hook = base(ChainType::Nat, Hook::Postrouting, 100);
    Table {
        dormant: false,
        family: Family::Inet,
        name: "cni_plugins_masquerade".into(),
        comment: Some(
            "Masquerading for plugins from github.com/containernetworking/plugins".into(),
        ),
        chains: vec![
            chain("masq_checks", None, checks),
            chain("postrouting", hook, postrouting),
        ],
    }
}

fn spoof_table() -> Table {
    let rule = |statements: &[Statement]| Rule::new(Family::Bridge, statements);
    let (comment, mac_chain) = ("macspoofchk-x", "cni-br-iface-x-mac");
    let mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
    let mac_rules = vec![
        rule(&[Statement::EtherSaddr(mac), Statement::Return]).with_comment(comment),
        rule(&[Statement::Drop]),
    ];
    let jump = [
        Statement::Iifname("veth0".into()),
        Statement::Jump(mac_chain.into()),
    ];
    let jump = rule(&jump).with_comment(comment);
    assert_eq!(
        (jump.iifname(), jump.jump()),
        (Some("veth0"), Some(mac_chain))
    );
    let prerouting = vec![jump, rule(&[saddr("10.1.2.3/32"), Statement::Accept])];
    let hook = base(ChainType::Filter, Hook::Prerouting, -300);
    Table {
        dormant: false,
        family: Family::Bridge,
        name: "nat".into(),
        comment: None,
        chains: vec![
            chain(mac_chain, None, mac_rules),
            chain("PREROUTING", hook, prerouting),
        ],
    }
}
