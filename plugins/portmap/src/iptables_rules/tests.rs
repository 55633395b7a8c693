use super::*;
use crate::holder::Container;
use go_compat::json::Document;

fn owner(id: &str) -> Attachment {
    Attachment::new("test", id, "eth0")
}

fn saved(lines: &[String]) -> Saved {
    let mut saved = Saved::default();
    for line in lines {
        if let Some(chain) = line.strip_prefix("-N ") {
            saved.chains.push(chain.to_owned());
        } else if let Some(rule) = line.strip_prefix("-A ").or(line.strip_prefix("-I ")) {
            saved.rules.push(format!("-A {rule}"));
        }
    }
    saved
}

fn conf(keys: &str) -> Conf {
    Conf::read(&Document::parse(keys.as_bytes()).unwrap()).unwrap()
}

const TWO: &str = r#"{"runtimeConfig":{"portMappings":[
    {"hostPort":8080,"containerPort":80,"protocol":"tcp"},
    {"hostPort":8081,"containerPort":81,"protocol":"TCP","hostIP":"192.0.2.1"}]}}"#;

/// A container with these addresses, in a namespace that does not exist.
fn container(addresses: &[&str]) -> Container {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    Container::at("/none/pod", "eth0", addresses)
}

fn plan(owner: &Attachment, keys: &str, address: &str, saved: &Saved) -> Vec<String> {
    let (conf, address) = (conf(keys), address.parse::<IpNetwork>().unwrap());
    let container = container(&[&address.ip().to_string()]);
    additions(&Mappings::new(owner, &conf, address, &container), saved).unwrap()
}

#[test]
fn additions_to_an_empty_table_equal_upstream_rules() {
    let owner = owner(
        "icee6giejonei6sohng6ahngee7laquohquee9shiGo7fohferakah3Feiyoolu2pei7ciPhoh7shaoX6vai3vuf0ahfaeng8yohb9ceu0daez5hashee8ooYai5wa3y",
    );
    let lines = plan(&owner, TWO, "10.9.1.2/24", &Saved::default());
    let chain = chain(&owner);
    assert_eq!(chain.len(), 28);
    let comment = format!(r#""dnat name: \"test\" id: \"{}\"""#, owner.container_id);
    assert_eq!(
        lines,
        [
            "-N CNI-HOSTPORT-DNAT".to_owned(),
            "-N CNI-HOSTPORT-SETMARK".to_owned(),
            "-N CNI-HOSTPORT-MASQ".to_owned(),
            "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT".to_owned(),
            "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT".to_owned(),
            "-I POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ".to_owned(),
            "-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000".to_owned(),
            "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE".to_owned(),
            format!("-N {chain}"),
            format!("-A {chain} -s 10.9.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
            format!("-A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
            format!("-A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.1.2:80"),
            format!("-A {chain} -s 10.9.1.0/24 -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j CNI-HOSTPORT-SETMARK"),
            format!("-A {chain} -s 127.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j CNI-HOSTPORT-SETMARK"),
            format!("-A {chain} -d 192.0.2.1/32 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.9.1.2:81"),
            format!("-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment {comment} -m multiport --dports 8080,8081 -j {chain}"),
        ]
    );
}

#[test]
fn ipv6_rules_have_brackets_and_no_localhost_source() {
    let lines = plan(&owner("a"), TWO, "fd09:1::2/64", &Saved::default());
    let chain = chain(&owner("a"));
    assert!(lines.contains(&format!(
        "-A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd09:1::2]:80"
    )));
    assert!(!lines.iter().any(|line| line.contains("127.0.0.1")));
    let with_8081 = lines.iter().filter(|line| line.contains("8081"));
    assert_eq!(
        with_8081.count(),
        1,
        "mapping with an address of the other family is left out"
    );
}

#[test]
fn snat_mark_and_condition_keys_change_the_rules() {
    let plan = |more: &str| {
        let keys = TWO.replacen('{', &format!("{{{more},"), 1);
        plan(&owner("a"), &keys, "10.9.1.2/24", &Saved::default()).join("\n")
    };
    let no_snat = plan(r#""snat":false"#);
    assert!(
        !no_snat.contains("MASQ") && !no_snat.contains("SETMARK"),
        "{no_snat}"
    );
    let all = plan(r#""masqAll":true,"markMasqBit":4"#);
    assert!(
        all.contains("--set-xmark 0x10/0x10") && !all.contains("-s "),
        "{all}"
    );
    let external = plan(r#""externalSetMarkChain":"KUBE-MARK-MASQ""#);
    assert!(
        external.contains("--dport 8080 -j KUBE-MARK-MASQ"),
        "{external}"
    );
    assert!(!external.contains("-N CNI-HOSTPORT-MASQ"), "{external}");
    let conditions = plan(r#""conditionsV4":["!","-s","192.0.2.0/24"]"#);
    assert!(
        conditions.contains("--dports 8080,8081 ! -s 192.0.2.0/24 -j CNI-DN-"),
        "{conditions}"
    );
}

#[test]
fn conditions_are_words_whatever_they_contain() {
    assert_eq!(quoted("192.0.2.0/24"), "192.0.2.0/24");
    for (word, expected) in [
        ("", r#""""#),
        ("two words", r#""two words""#),
        (r#"say "hi""#, r#""say \"hi\"""#),
        (r"back\slash", r#""back\\slash""#),
        ("it's", r#""it's""#),
    ] {
        assert_eq!(quoted(word), expected);
    }
}

#[test]
fn entry_rules_match_at_most_15_ports() {
    let mappings: Vec<_> = (1..=31)
        .map(|port| format!(r#"{{"hostPort":{port},"containerPort":80,"protocol":"udp"}}"#))
        .collect();
    let keys = format!(
        r#"{{"runtimeConfig":{{"portMappings":[{}]}}}}"#,
        mappings.join(",")
    );
    let lines = plan(&owner("a"), &keys, "10.9.1.2/24", &Saved::default());
    let entries = lines.iter().filter(|line| line.contains("multiport"));
    let counts: Vec<_> = entries.map(|line| line.matches(',').count() + 1).collect();
    assert_eq!(counts, [15, 15, 1]);
}

#[test]
fn second_add_replaces_own_chain_and_evicts_others_of_the_same_port() {
    let first = saved(&plan(&owner("a"), TWO, "10.9.1.2/24", &Saved::default()));
    assert_eq!(first.rules.len(), 12);
    let again = plan(&owner("a"), TWO, "10.9.1.2/24", &first);
    let chain = chain(&owner("a"));
    assert!(again.contains(&format!("-F {chain}")) && again.contains(&format!("-X {chain}")));
    assert!(!again.iter().any(|line| line.contains("PREROUTING")));

    let other = plan(&owner("b"), TWO, "10.9.2.2/24", &first);
    let evicted: Vec<_> = other.iter().filter(|line| line.starts_with("-D")).collect();
    assert_eq!(evicted.len(), 6, "{evicted:?}");
    assert!(
        evicted
            .iter()
            .all(|line| line.starts_with(&format!("-D {chain} ")))
    );
    let apart = TWO.replace("8080", "9080").replace("8081", "9081");
    let apart = plan(&owner("b"), &apart, "10.9.2.2/24", &first);
    assert!(
        !apart.iter().any(|line| line.starts_with("-D")),
        "other ports do not conflict"
    );
}

#[test]
fn another_interface_of_a_container_has_a_chain_of_its_own() {
    let eth0 = owner("a");
    let net1 = Attachment::new("test", "a", "net1");
    assert_ne!(chain(&net1), chain(&eth0));
    assert_eq!(shared_chain(&net1), chain(&eth0));
    let first = saved(&plan(&eth0, TWO, "10.9.1.2/24", &Saved::default()));
    let apart = TWO.replace("8080", "9080").replace("8081", "9081");
    let second = plan(&net1, &apart, "10.9.2.2/24", &first);
    assert!(!second.iter().any(|line| line.contains(&chain(&eth0))));
    let comment = r#""dnat name: \"test\" id: \"a\" if: \"net1\"""#;
    assert!(
        second.iter().any(|line| line.contains(comment)),
        "{second:?}"
    );
    // GC: without a chain of its own, an interface may have rules in upstream's
    let valid = [net1.clone()];
    assert!(stale(&first, "test", &valid).is_empty());
    let second = saved(&second);
    let both = Saved {
        chains: [first.chains, second.chains].concat(),
        rules: [first.rules, second.rules].concat(),
    };
    assert_eq!(stale(&both, "test", &valid), [chain(&eth0)].into());
    assert!(stale(&both, "test", &[eth0, net1]).is_empty());
}

#[test]
fn added_rules_are_found_and_each_missing_rule_is_reported() {
    let (owner, conf) = (owner("a"), conf(TWO));
    let container = container(&["10.9.1.2"]);
    let mappings = Mappings::new(&owner, &conf, "10.9.1.2/24".parse().unwrap(), &container);
    let mut found = saved(&additions(&mappings, &Saved::default()).unwrap());
    assert_eq!(missing(&mappings, &found), None);
    assert_eq!(
        forwards(&found, &BTreeSet::from([chain(&owner)])),
        mappings.forwards
    );
    let own = chain(&owner);
    assert_eq!(
        chains_of_network(&found, "test"),
        BTreeSet::from([own.as_str()])
    );
    assert!(chains_of_network(&found, "tes").is_empty());
    let holder = holder(&found, &own);
    assert_eq!(holder.description, r#"name: "test" id: "a""#);
    assert_eq!(holder.container_id.as_deref(), Some("a"));
    for position in 0..found.rules.len() {
        let rule = found.rules.remove(position);
        assert_eq!(missing(&mappings, &found).as_ref(), Some(&rule));
        found.rules.insert(position, rule);
    }
}

#[test]
fn old_shared_chain_is_removed_when_it_becomes_empty() {
    let (mine, other) = (&chains_of(&owner("a"))[1], &chains_of(&owner("b"))[1]);
    let mut found = Saved {
        chains: vec![OLD_SNAT.into(), mine.clone(), other.clone()],
        rules: vec![
            format!("-A POSTROUTING -s 127.0.0.1/32 ! -d 127.0.0.1/32 -j {OLD_SNAT}"),
            format!("-A {OLD_SNAT} -m comment --comment x -j {mine}"),
            format!("-A {OLD_SNAT} -m comment --comment x -j {other}"),
        ],
    };
    let own = BTreeSet::from(chains_of(&owner("a")));
    assert_eq!(
        removals(&found, &own),
        [
            format!("-D {OLD_SNAT} -m comment --comment x -j {mine}"),
            format!("-F {mine}"),
            format!("-X {mine}"),
        ]
    );
    found.rules.pop();
    found.chains.pop();
    let all = removals(&found, &own);
    assert!(all.contains(&format!("-X {OLD_SNAT}")), "{all:?}");
    assert!(all[0].starts_with("-D POSTROUTING"), "{all:?}");
}

#[test]
fn incomplete_rules_are_ignored() {
    let found = Saved {
        chains: vec![],
        rules: [
            "-A CNI-DN-x",
            "-A CNI-DN-x -p tcp --dport",
            "-A",
            "",
            "-A CNI-HOSTPORT-DNAT -j",
        ]
        .map(String::from)
        .to_vec(),
    };
    assert!(forwards(&found, &BTreeSet::from(["CNI-DN-x".to_owned()])).is_empty());
    assert!(chains_of_network(&found, "test").is_empty());
    let (owner, conf, container) = (owner("a"), conf(TWO), container(&[]));
    let mappings = Mappings::new(&owner, &conf, "10.9.1.2/24".parse().unwrap(), &container);
    assert!(evictions(&mappings, "own", &found).unwrap().is_empty());
}
