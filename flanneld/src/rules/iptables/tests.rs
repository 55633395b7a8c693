use super::*;
use packet_filter::Saved;
use proptest::prelude::*;

const SETTINGS: RuleSettings = RuleSettings {
    masquerade: true,
    fully_random: true,
    forward: true,
};

fn planned(config: &str, own: &str, settings: RuleSettings) -> Vec<RuleSet> {
    let config = NetworkConfig::parse(config).unwrap();
    let own: Lease = go_compat::json::from_slice(own.as_bytes()).unwrap();
    rule_sets(&ChainNames::upstream(), &config, &own, settings)
}

fn v4(settings: RuleSettings) -> RuleSet {
    let sets = planned(
        r#"{"Network":"10.42.0.0/16","Backend":{"Type":"vxlan"}}"#,
        r#"{"Subnet":"10.42.7.0/24","Attrs":{}}"#,
        settings,
    );
    assert_eq!(
        (sets.len(), sets[1].ipv6, sets[1].chains.len()),
        (2, true, 0)
    );
    sets.into_iter().next().unwrap()
}

/// The state that a restore leaves, by the rules of iptables: `:` makes or empties, `-D` deletes
/// the first equal rule and fails without one.
fn restore(tables: &mut Tables, lines: &Lines) {
    for (table, lines) in lines.iter().filter(|(_, lines)| !lines.is_empty()) {
        let saved = tables.entry((*table).to_owned()).or_default();
        for built_in in ["POSTROUTING", "FORWARD"] {
            if (*table == "nat") == (built_in == "POSTROUTING") && !saved.has(built_in) {
                saved.chains.push(built_in.to_owned());
            }
        }
        for line in lines {
            let (command, rest) = line.split_at(line.find(' ').unwrap());
            let rest = rest.trim();
            match command {
                "-A" => saved.rules.push(line.clone()),
                "-D" => {
                    let rule = format!("-A {rest}");
                    let first = saved.rules.iter().position(|found| *found == rule);
                    saved.rules.remove(first.expect("the rule is there"));
                }
                "-F" => saved
                    .rules
                    .retain(|rule| !rule.starts_with(&format!("-A {rest} "))),
                "-X" => saved.chains.retain(|chain| chain != rest),
                declared => {
                    let chain = declared.strip_prefix(':').unwrap();
                    if !saved.has(chain) {
                        saved.chains.push(chain.to_owned());
                    }
                    saved
                        .rules
                        .retain(|rule| !rule.starts_with(&format!("-A {chain} ")));
                }
            }
        }
    }
}

/// The text of upstream (pkg/trafficmngr/iptables/iptables_test.go and its e2e tests).
#[test]
fn rules_are_upstream_s() {
    let mut tables = Tables::new();
    restore(
        &mut tables,
        &lines(&v4(SETTINGS), &ChainNames::upstream(), &Tables::new()),
    );
    assert_eq!(
        tables["nat"].rules,
        [
            "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN",
            "-A FLANNEL-POSTRTG -s 10.42.7.0/24 -d 10.42.0.0/16 -m comment --comment \"flanneld masq\" -j RETURN",
            "-A FLANNEL-POSTRTG -s 10.42.0.0/16 -d 10.42.7.0/24 -m comment --comment \"flanneld masq\" -j RETURN",
            "-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.7.0/24 -m comment --comment \"flanneld masq\" -j RETURN",
            "-A FLANNEL-POSTRTG -s 10.42.0.0/16 ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully",
            "-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.0.0/16 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully",
            "-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG",
        ]
    );
    assert_eq!(
        tables["filter"].rules,
        [
            "-A FLANNEL-FWD -s 10.42.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT",
            "-A FLANNEL-FWD -d 10.42.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT",
            "-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD",
        ]
    );
}

#[test]
fn options_decide_which_rules_there_are() {
    let plain = v4(RuleSettings {
        fully_random: false,
        forward: false,
        ..SETTINGS
    });
    assert_eq!(plain.chains.len(), 1);
    assert!(plain.chains[0].rules[4].ends_with("-j MASQUERADE"));
    let forward = v4(RuleSettings {
        masquerade: false,
        ..SETTINGS
    });
    assert_eq!(forward.chains[0].name, "FLANNEL-FWD");
    let v6 = planned(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}"#,
        r#"{"IPv6Subnet":"fd00:10:244:7::/64","Attrs":{}}"#,
        SETTINGS,
    );
    assert_eq!(v6[0].chains, []);
    assert_eq!(
        v6[1].chains[0].rules[4],
        "-s fd00:10:244::/48 ! -d ff00::/8 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully"
    );
}

#[test]
fn names_of_a_second_daemon_fit_and_are_recognised() {
    let names = ChainNames::of_device("flannel.9999999");
    for (table, _, name) in names
        .chains()
        .into_iter()
        .chain(ChainNames::upstream().chains())
    {
        assert!(name.len() <= 28 && is_chain(table, name), "{name}");
    }
    for (table, name) in [
        ("nat", "FLANNEL-FWD"),
        ("filter", "FLANNEL-FWD-MINE"),
        ("nat", "FLANNEL-POSTRTG-flannel.7"),
        ("mangle", "FLANNEL-FWD"),
    ] {
        assert!(!is_chain(table, name), "{table} {name}");
    }
}

#[test]
fn jump_that_is_there_once_stays_where_it_is() {
    let (names, wanted) = (ChainNames::upstream(), v4(SETTINGS));
    let mut tables = Tables::new();
    restore(&mut tables, &lines(&wanted, &names, &Tables::new()));
    let nat = tables.get_mut("nat").unwrap();
    nat.rules
        .push("-A POSTROUTING -s 192.0.2.1/32 -j ACCEPT".to_owned());
    let before = tables.clone();
    assert!(
        lines(&wanted, &names, &tables)
            .iter()
            .all(|(_, lines)| lines.is_empty())
    );
    // twice, and one with another match: one line each
    let nat = tables.get_mut("nat").unwrap();
    let jump = "-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG";
    nat.rules.insert(0, jump.to_owned());
    nat.rules
        .push("-A POSTROUTING -s 10.42.0.0/16 -j FLANNEL-POSTRTG".to_owned());
    let found = lines(&wanted, &names, &tables);
    assert_eq!(found[0].1.len(), 2, "{found:?}");
    restore(&mut tables, &found);
    assert_eq!(tables, before);
}

/// Another program's rules between ours, in any order and number.
fn any_tables() -> impl Strategy<Value = Tables> {
    let own = v4(SETTINGS);
    let mut rules = vec![
        "-A POSTROUTING -s 192.0.2.1/32 -j ACCEPT".to_owned(),
        "-A POSTROUTING -m comment --comment \"-j FLANNEL-POSTRTG\" -j OTHER".to_owned(),
        "-A POSTROUTING -s 192.0.2.1/32 -j FLANNEL-POSTRTG".to_owned(),
        "-A OTHER -j RETURN".to_owned(),
        "-A FLANNEL-POSTRTG -j RETURN".to_owned(),
    ];
    let chain = &own.chains[0];
    rules.push(format!("-A POSTROUTING {}", chain.jumps[0]));
    rules.extend(
        chain
            .rules
            .iter()
            .map(|rule| format!("-A FLANNEL-POSTRTG {rule}")),
    );
    let some = prop::collection::vec(prop::sample::select(rules), 0..14);
    (any::<bool>(), some).prop_map(|(has_chain, mut rules)| {
        let mut chains = vec!["POSTROUTING".to_owned(), "OTHER".to_owned()];
        match has_chain {
            true => chains.push("FLANNEL-POSTRTG".to_owned()),
            // no rule can lead to a chain that is not there
            false => {
                rules.retain(|rule| !rule.contains("FLANNEL-POSTRTG") || rule.contains("OTHER"));
            }
        }
        Tables::from([("nat".to_owned(), Saved { chains, rules })])
    })
}

proptest! {
    #[test]
    fn restored_lines_give_the_wanted_rules_and_leave_others(mut tables in any_tables(), masquerade: bool) {
        let names = ChainNames::upstream();
        let wanted = v4(RuleSettings { masquerade, ..SETTINGS });
        let foreign = |tables: &Tables| {
            let rules = tables["nat"].rules.iter();
            rules.filter(|rule| !rule.contains("FLANNEL") || rule.contains("OTHER")).cloned().collect::<Vec<_>>()
        };
        let before = foreign(&tables);
        let found = lines(&wanted, &names, &tables);
        restore(&mut tables, &found);
        prop_assert_eq!(observed(&names, false, &tables), wanted.clone());
        prop_assert_eq!(foreign(&tables), before);
        prop_assert!(lines(&wanted, &names, &tables).iter().all(|(_, lines)| lines.is_empty()));
    }
}
