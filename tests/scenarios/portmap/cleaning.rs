//! DEL, GC and CHECK find exactly the pod's mappings; invalid input is refused.

use super::stage::*;
use serde_json::{Value, json};
use tests::{Cni, Host, scenario};

/// A configuration without prevResult.
fn bare(verb: &str, more: Value) -> Value {
    let mut config = json!({"name": "cbr0", "cniVersion": "1.1.0", "type": "portmap"});
    for (key, value) in more.as_object().expect("object") {
        config[key] = value.clone();
    }
    assert_ne!(verb, "ADD", "ADD needs prevResult");
    config
}

#[scenario]
fn del_and_gc_succeed_on_a_kernel_without_nftables() {
    let net = stage();
    let node = &net.hosts[0];
    let conf = bare("DEL", json!({"cni.dev/valid-attachments": []}));
    for (verb, errno) in [
        ("DEL", "EPROTONOSUPPORT"),
        ("GC", "EPROTONOSUPPORT"),
        ("DEL", "EAFNOSUPPORT"),
    ] {
        node.sh(&format!(
            "cat > /run/conf <<'END'\n{conf}\nEND\n\
             CNI_COMMAND={verb} CNI_CONTAINERID=container1 CNI_NETNS= CNI_IFNAME=eth0 CNI_PATH={BIN} \
             strace -o /run/trace -e trace=socket -e inject=socket:error={errno} {BIN}/portmap < /run/conf; \
             code=$?; grep -q INJECTED /run/trace && exit $code"
        ));
    }
}

#[scenario]
fn add_restores_rules_that_others_removed() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let _pods = two_servers(node);
    let conf = |number: u8| {
        let mappings = json!([port(8080 + u16::from(number), 80, "tcp")]);
        config(number, mappings, json!({}))
    };
    let ask = |to: &str| client.run(|| ask_tcp(to));
    call(node, "ADD", 1, &conf(1)).ok();
    node.sh("nft flush chain ip cni_hostport map_prerouting");
    assert_eq!(ask("172.31.0.1:8081"), None);
    call(node, "ADD", 2, &conf(2)).ok();
    assert_eq!(
        ask("172.31.0.1:8081").as_deref(),
        Some("one"),
        "the next ADD restores the rule"
    );
    assert_eq!(ask("172.31.0.1:8082").as_deref(), Some("two"));
    node.sh("nft flush ruleset");
    call(node, "DEL", 1, &conf(1)).ok();
    call(node, "ADD", 2, &conf(2)).ok();
    assert_eq!(ask("172.31.0.1:8082").as_deref(), Some("two"));
}

/// A node with rules of the Go plugin's nftables back end.
fn go_table(host: &Host) {
    host.sh("nft -f - <<'END'
table ip cni_hostport {
    comment \"CNI portmap plugin\"
    chain hostports {
        tcp dport 8081 dnat to 10.9.1.2:80 comment \"container1\"
        tcp dport 8082 dnat to 10.9.77.2:80 comment \"container77\"
        ip daddr 192.0.2.1 tcp dport 8082 dnat to 10.9.78.2:80 comment \"container78\"
    }
    chain hostip_hostports { }
    chain hostports_all { jump hostip_hostports; jump hostports; }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump hostports_all; }
    chain output { type nat hook output priority -100; policy accept; fib daddr type local jump hostports_all; }
    chain masquerading {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.9.1.2 ip daddr 10.9.1.2 masquerade comment \"container1\"
        ip saddr 127.0.0.1 ip daddr 10.9.1.2 masquerade comment \"container1\"
    }
}
END");
}

#[scenario]
fn rules_of_the_go_plugin_are_respected_and_removed_by_del() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let _pods = two_servers(node);
    let conf = |number: u8| {
        let mappings = json!([port(8080 + u16::from(number), 80, "tcp")]);
        config(number, mappings, json!({}))
    };
    let ask = |to: &str| client.run(|| ask_tcp(to));
    go_table(node);
    assert_eq!(ask("172.31.0.1:8081").as_deref(), Some("one"));
    let ipv4_only = |number| {
        let mut conf = conf(number);
        conf["prevResult"]["ips"]
            .as_array_mut()
            .expect("list")
            .truncate(1);
        conf
    };
    call(node, "CHECK", 1, &ipv4_only(1)).ok();
    // the Go plugin's stale rule for the port does not shadow the new mapping
    call(node, "ADD", 2, &conf(2)).ok();
    assert_eq!(ask("172.31.0.1:8082").as_deref(), Some("two"));
    assert_eq!(
        ask("172.31.0.1:8081").as_deref(),
        Some("one"),
        "the Go plugin's pods stay reachable"
    );
    let rules = ruleset(node);
    assert!(!rules.contains("container77"), "{rules}");
    assert!(
        rules.contains("container78"),
        "rule of another address: {rules}"
    );
    // our DEL removes the Go plugin's rules
    Cni::new(BIN, "container1", "")
        .call(node, "DEL", "portmap", &bare("DEL", json!({})).to_string())
        .ok();
    let rules = ruleset(node);
    assert!(!rules.contains("10.9.1.2"), "{rules}");
    assert!(
        rules.contains("jump hostports_all") && rules.contains("container78"),
        "{rules}"
    );
    assert_eq!(ask("172.31.0.1:8081"), None);
    assert_eq!(ask("172.31.0.1:8082").as_deref(), Some("two"));
}

#[scenario]
fn check_reports_each_missing_part() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let conf = config(1, json!([port(8080, 80, "tcp")]), json!({"masqAll": true}));
    let (_, message) = call(node, "CHECK", 1, &conf).error();
    assert!(
        message.contains("is missing in table ip cni_hostport"),
        "{message}"
    );
    for (damage, named) in [
        (
            "delete element ip cni_hostport hostports { tcp . 8080 }",
            "tcp port 8080 to 10.9.1.2:80",
        ),
        (
            "delete element ip6 cni_hostport hostports { tcp . 8080 }",
            "tcp port 8080 to [fd09:1::2]:80",
        ),
        (
            "delete element ip cni_hostport masquerade_all { 10.9.1.2 }",
            "masquerade_all",
        ),
        (
            "flush chain ip cni_hostport map_output",
            "a rule that all mappings share",
        ),
        ("delete table ip6 cni_hostport", "cni_hostport"),
    ] {
        call(node, "ADD", 1, &conf).ok();
        call(node, "CHECK", 1, &conf).ok();
        node.sh(&format!("nft '{damage}'"));
        let (code, message) = call(node, "CHECK", 1, &conf).error();
        assert_eq!(code, 999);
        assert!(message.contains(named), "{damage}: {message}");
    }
}

#[scenario]
fn gc_removes_only_mappings_without_a_valid_attachment() {
    let net = stage();
    let node = &net.hosts[0];
    let pods: Vec<_> = (1..=3).map(|number| pod(node, number)).collect();
    assert_eq!(pods.len(), 3);
    let conf = |number: u8, more: Value| {
        let mappings = json!([port(8080 + u16::from(number), 80, "udp")]);
        config(number, mappings, more)
    };
    call(node, "ADD", 1, &conf(1, json!({}))).ok();
    call(
        node,
        "ADD",
        2,
        &conf(2, json!({"conditionsV4": ["ip", "saddr", "192.0.2.0/24"]})),
    )
    .ok();
    call(node, "ADD", 3, &conf(3, json!({"name": "other-network"}))).ok();
    let status = Cni::new(BIN, "", "");
    let collect = |more: Value| {
        status
            .call(node, "GC", "portmap", &bare("GC", more).to_string())
            .ok()
    };
    let before = ruleset(node);
    collect(json!({}));
    assert_eq!(ruleset(node), before, "GC without the list changes nothing");
    collect(json!({"cni.dev/valid-attachments": [
        {"containerID": "container1", "ifname": "eth0"}, {"containerID": "container2", "ifname": "eth0"}]}));
    assert_eq!(ruleset(node), before, "all are valid");
    collect(json!({"cni.dev/valid-attachments": [
        {"containerID": "container1", "ifname": "eth0"}, {"containerID": "container2", "ifname": "eth1"}]}));
    let rules = ruleset(node);
    assert!(
        !rules.contains("10.9.2.2") && !rules.contains("container2"),
        "{rules}"
    );
    call(node, "CHECK", 1, &conf(1, json!({}))).ok();
    collect(json!({"cni.dev/valid-attachments": []}));
    let rules = ruleset(node);
    assert!(!rules.contains("10.9.1.2"), "{rules}");
    assert!(
        rules.contains("10.9.3.2"),
        "mapping of another network: {rules}"
    );
    status
        .call(
            node,
            "STATUS",
            "portmap",
            &bare("STATUS", json!({})).to_string(),
        )
        .ok();
}

#[scenario]
fn invalid_configurations_are_refused_and_leave_nothing() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let one = |mapping: Value| json!({"runtimeConfig": {"portMappings": [mapping]}});
    for (more, message) in [
        (
            json!({"backend": "ebtables"}),
            "failed to parse config: unrecognized backend \"ebtables\"",
        ),
        (
            json!({"markMasqBit": 32}),
            "failed to parse config: MasqMarkBit must be between 0 and 31",
        ),
        (
            json!({"markMasqBit": -1}),
            "failed to parse config: MasqMarkBit must be between 0 and 31",
        ),
        (
            json!({"markMasqBit": 1, "externalSetMarkChain": "X"}),
            "failed to parse config: Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (
            json!({"conditionsV4": ["-s", "1.2.3.4"]}),
            "failed to parse config: nftables backend was requested but configuration contains \
             iptables-specific options [conditionsV4]",
        ),
        (
            json!({"backend": "iptables", "conditionsV4": ["ip", "saddr", "1.2.3.4"], "conditionsV6": ["tcp"]}),
            "failed to parse config: iptables backend was requested but configuration contains \
             nftables-specific options [conditionsV4 conditionsV6]",
        ),
        (
            one(port(0, 80, "tcp")),
            "failed to parse config: Invalid host port number: 0",
        ),
        (
            one(port(80, 0, "tcp")),
            "failed to parse config: Invalid container port number: 0",
        ),
        (
            one(json!({"hostPort": 65536, "containerPort": 80, "protocol": "tcp"})),
            "failed to parse config: Invalid host port number: 65536",
        ),
        (
            one(port(80, 80, "icmp")),
            "failed to parse config: Invalid protocol \"icmp\" of host port 80 (known are tcp, udp, sctp, dccp, udplite)",
        ),
        (
            one(
                json!({"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "localhost"}),
            ),
            "failed to parse config: host IP of port 80: invalid IP address: localhost",
        ),
        (
            json!({"prevResult": null}),
            "must be called as chained plugin",
        ),
    ] {
        let conf = config(1, json!([port(8080, 80, "tcp")]), more);
        assert_eq!(
            call(node, "ADD", 1, &conf).error(),
            (999, message.to_owned())
        );
    }
    for more in [json!({"snat": "yes"}), json!({"runtimeConfig": []})] {
        let (_, message) = call(node, "ADD", 1, &config(1, json!([]), more)).error();
        assert!(message.starts_with("failed to parse config: "), "{message}");
    }
    assert_eq!(ruleset(node), "");
}

/// Without runtimeConfig, prevResult and namespace, with invalid keys, and a second time.
#[scenario]
fn del_needs_only_the_container_id_and_interface() {
    let net = stage();
    let node = &net.hosts[0];
    let made = pod(node, 1);
    let mappings = json!([port(8080, 80, "tcp"), port(5353, 53, "udp")]);
    for broken in [
        json!({}),
        json!({"backend": "no such", "markMasqBit": 77}),
        json!({"backend": "nftables", "snat": "maybe", "runtimeConfig": 3}),
        json!({"snat": "maybe", "runtimeConfig": {"portMappings": [{"hostPort": 8080}]}}),
        json!({"runtimeConfig": {"portMappings": [{"hostPort": -1}]}}),
        json!({"prevResult": {"cniVersion": "9.9.9"}}),
        json!({"name": "renamed"}),
    ] {
        call(node, "ADD", 1, &config(1, mappings.clone(), json!({}))).ok();
        let cni = Cni::new(BIN, "container1", "");
        for _ in 0..2 {
            let outcome = cni.call(
                node,
                "DEL",
                "portmap",
                &bare("DEL", broken.clone()).to_string(),
            );
            assert_eq!(outcome.ok().stdout, "");
            assert_nothing_left(node);
        }
    }
    made.delete();
    // also on a host that never had a mapping
    let fresh = &net.hosts[1];
    fresh.run(|| tests::binaries::install_suite(BIN.as_ref()));
    Cni::new(BIN, "container1", "")
        .call(fresh, "DEL", "portmap", &bare("DEL", json!({})).to_string())
        .ok();
    assert_eq!(ruleset(fresh), "");
}
