//! The iptables back end, compared with the Go plugin if it is installed.

use super::stage::*;
use serde_json::{Value, json};
use tests::{
    Cni, Host,
    peers::{GO_PLUGINS as GO, built_from_go, without_go_plugins},
    scenario,
};

/// `config` without the key `backend`, which the Go plugin of Debian 12 does not support.
fn conf(number: u8, mappings: Value, more: Value) -> Value {
    let mut conf = config(number, mappings, more);
    conf.as_object_mut().expect("object").remove("backend");
    conf["cniVersion"] = "1.0.0".into();
    conf["prevResult"]["cniVersion"] = "1.0.0".into();
    conf
}

fn go(host: &Host, verb: &str, number: u8, conf: &Value) {
    Cni::new(
        GO,
        &format!("container{number}"),
        &format!("/run/netns/pod{number}"),
    )
    .call(host, verb, "portmap", &conf.to_string())
    .ok();
}

/// Both families' rules and chains, without counters and times.
fn saved(host: &Host) -> Vec<String> {
    let text = host.sh("iptables-save -t nat; ip6tables-save -t nat");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split(" [").next().expect("a first part").to_owned())
        .collect()
}

fn variants() -> Vec<Value> {
    vec![
        json!({}),
        json!({"snat": false}),
        json!({"markMasqBit": 20}),
        json!({"externalSetMarkChain": "PREPARED"}),
        json!({"conditionsV4": ["-s", "192.0.2.0/24"], "conditionsV6": ["!", "-s", "fd77::/64"]}),
        json!({"conditionsV4": ["-m", "comment", "--comment", "say \"hi\" -j there"]}),
    ]
}

fn mappings() -> Value {
    let mut with_ip = port(8443, 443, "tcp");
    with_ip["hostIP"] = "172.31.0.1".into();
    let mut unspecified = port(9000, 900, "udp");
    unspecified["hostIP"] = "::".into();
    json!([
        port(8080, 80, "tcp"),
        port(5353, 53, "udp"),
        with_ip,
        port(3868, 3868, "sctp"),
        unspecified
    ])
}

/// Without masqAll, which Debian's plugin does not support.
#[scenario(unless = without_go_plugins)]
fn rules_after_add_and_del_equal_gos() {
    for more in variants() {
        let net = stage();
        let [own_host, go_host] = &net.hosts[..] else {
            panic!("two hosts")
        };
        let _pods = [pod(own_host, 1), pod(go_host, 1)];
        for host in [own_host, go_host] {
            host.sh("iptables -t nat -N PREPARED; ip6tables -t nat -N PREPARED");
        }
        let conf = conf(1, mappings(), more.clone());
        call(own_host, "ADD", 1, &conf).ok();
        go(go_host, "ADD", 1, &conf);
        assert_eq!(saved(own_host), saved(go_host), "{more}");
        call(own_host, "CHECK", 1, &conf).ok();
        go_host.run(|| tests::binaries::install_suite(BIN.as_ref()));
        call(go_host, "CHECK", 1, &conf).ok();
        call(own_host, "DEL", 1, &conf).ok();
        go(go_host, "DEL", 1, &conf);
        assert_eq!(saved(own_host), saved(go_host), "{more}");
        assert_nothing_left(own_host);
    }
}

fn without_pinned_plugins() -> Option<String> {
    built_from_go("plugins").err()
}

/// A list names one host port several times. The first mapping counts; one that is repeated word
/// for word is one rule, where it stood first.
#[scenario(unless = without_pinned_plugins)]
fn repeated_mappings_lead_where_gos_lead() {
    let pinned = built_from_go("plugins").expect("built");
    let pinned = pinned.to_str().expect("UTF-8");
    let net = stage();
    let [own_host, go_host] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let pods = [pod(own_host, 1), pod(go_host, 1)];
    for pod in &pods {
        serve_tcp(pod, 80, "first");
        serve_tcp(pod, 81, "second");
    }
    let to = |container_port: u16| port(8080, container_port, "tcp");
    let at = |ip: &str, container_port: u16| {
        let mut mapping = to(container_port);
        mapping["hostIP"] = ip.into();
        mapping
    };
    let host_ip = "192.0.2.1";
    for host in [own_host, go_host] {
        host.sh(&format!("ip addr add {host_ip}/32 dev lo"));
    }
    let same_rules = true;
    for (list, expected, same_rules) in [
        (json!([to(80), to(80)]), "first", same_rules),
        (json!([at("0.0.0.0", 80), to(80)]), "first", same_rules),
        (json!([to(80), to(81), to(80)]), "first", !same_rules),
        (json!([to(81), to(80), to(81)]), "second", !same_rules),
        (
            json!([at("0.0.0.0", 81), to(80), to(81)]),
            "second",
            !same_rules,
        ),
        (
            json!([to(80), at(host_ip, 81), to(80)]),
            "first",
            same_rules,
        ),
        (
            json!([at(host_ip, 81), to(80), at(host_ip, 81)]),
            "second",
            same_rules,
        ),
    ] {
        let [ours, gos] = [(own_host, BIN), (go_host, pinned)].map(|(host, path)| {
            let conf = conf(1, list.clone(), json!({}));
            let cni = Cni::new(path, "container1", "/run/netns/pod1");
            let call = |verb: &str| cni.call(host, verb, "portmap", &conf.to_string()).ok();
            call("ADD");
            call("CHECK");
            let answer = host.run(|| ask_tcp(&format!("{host_ip}:8080")));
            let rules = saved(host);
            call("DEL");
            assert_nothing_left(host);
            (answer, rules)
        });
        assert_eq!(gos.0.as_deref(), Some(expected), "{list}");
        assert_eq!(ours.0.as_deref(), Some(expected), "{list}");
        assert!(
            !same_rules || ours.1 == gos.1,
            "{list}: {ours:#?}\n{gos:#?}"
        );
    }
}

#[scenario(unless = without_go_plugins)]
fn each_plugin_removes_the_mappings_of_the_other() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let _pods = two_servers(node);
    let with_port = |number: u8| {
        let mappings = json!([port(8080 + u16::from(number), 80, "tcp")]);
        conf(number, mappings, json!({}))
    };
    let ask = |to: &str| client.run(|| ask_tcp(to));
    go(node, "ADD", 1, &with_port(1));
    call(node, "ADD", 2, &with_port(2)).ok();
    assert_eq!(ask("172.31.0.1:8081").as_deref(), Some("one"));
    assert_eq!(ask("172.31.0.1:8082").as_deref(), Some("two"));
    let bare = json!({"name": "cbr0", "cniVersion": "1.0.0", "type": "portmap"});
    Cni::new(BIN, "container1", "")
        .call(node, "DEL", "portmap", &bare.to_string())
        .ok();
    go(node, "DEL", 2, &with_port(2));
    assert_eq!(ask("172.31.0.1:8081"), None);
    assert_eq!(ask("172.31.0.1:8082"), None);
    assert_nothing_left(node);
}

#[scenario]
fn add_and_del_start_two_processes_a_family_and_an_empty_del_none() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let conf = conf(1, json!([port(8080, 80, "tcp")]), json!({}));
    let count = |verb: &str| {
        let trace = node.sh(&format!(
            "cat > /run/conf <<'END'\n{conf}\nEND\n\
             CNI_COMMAND={verb} CNI_CONTAINERID=container1 CNI_NETNS=/run/netns/pod1 CNI_IFNAME=eth0 \
             CNI_PATH={BIN} strace -f -o /run/trace -e trace=execve {BIN}/portmap < /run/conf > /run/result; \
             grep -c '= 0' /run/trace"
        ));
        trace.trim().parse::<u32>().expect("number") - 1
    };
    assert_eq!(count("DEL"), 0);
    assert_eq!(count("ADD"), 4);
    assert_eq!(count("DEL"), 4);
    assert_eq!(count("DEL"), 0);
}

#[scenario]
fn check_reports_missing_rules_and_gc_removes_stale_chains() {
    let net = stage();
    let node = &net.hosts[0];
    let _pods = [pod(node, 1), pod(node, 2), pod(node, 3)];
    let with_port = |number: u8, more: Value| {
        let mappings = json!([port(8080 + u16::from(number), 80, "tcp")]);
        config(number, mappings, more)
    };
    let more = json!({"backend": "iptables", "conditionsV4": ["-s", "192.0.2.0/24"]});
    let first = with_port(1, more);
    call(node, "ADD", 1, &first).ok();
    call(node, "CHECK", 1, &first).ok();
    for damage in [
        "iptables -t nat -D PREROUTING 1",
        "iptables -t nat -D CNI-HOSTPORT-DNAT 1",
        "iptables -t nat -F CNI-HOSTPORT-MASQ",
        "ip6tables -t nat -D POSTROUTING 1",
    ] {
        node.sh(damage);
        let (code, message) = call(node, "CHECK", 1, &first).error();
        assert_eq!(code, 999);
        assert!(
            message.contains("is missing in iptables' table nat"),
            "{damage}: {message}"
        );
        call(node, "ADD", 1, &first).ok();
        call(node, "CHECK", 1, &first).ok();
    }
    call(
        node,
        "ADD",
        2,
        &with_port(2, json!({"backend": "iptables"})),
    )
    .ok();
    call(
        node,
        "ADD",
        3,
        &with_port(3, json!({"backend": "iptables", "name": "other"})),
    )
    .ok();
    let collect = |valid: Value| {
        let conf = json!({"name": "cbr0", "cniVersion": "1.1.0", "type": "portmap", "cni.dev/valid-attachments": valid});
        Cni::new(BIN, "", "")
            .call(node, "GC", "portmap", &conf.to_string())
            .ok();
    };
    collect(json!([{"containerID": "container1", "ifname": "eth0"}]));
    let rules = saved(node).join("\n");
    assert!(
        !rules.contains("10.9.2.2") && !rules.contains("container2"),
        "{rules}"
    );
    assert!(
        rules.contains("10.9.3.2"),
        "mapping of another network: {rules}"
    );
    call(node, "CHECK", 1, &first).ok();
    collect(json!([]));
    let rules = saved(node).join("\n");
    assert!(
        !rules.contains("10.9.1.2") && rules.contains("container3"),
        "{rules}"
    );
}

#[scenario]
fn del_removes_mappings_of_the_other_backend() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let with = |backend: &str| {
        config(
            1,
            json!([port(8080, 80, "udp")]),
            json!({"backend": backend}),
        )
    };
    for (made, deleted) in [("iptables", "nftables"), ("nftables", "iptables")] {
        call(node, "ADD", 1, &with(made)).ok();
        call(node, "DEL", 1, &with(deleted)).ok();
        assert_nothing_left(node);
    }
}

#[scenario]
fn without_iptables_the_default_is_nftables() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    node.sh("mount -t tmpfs none /usr/sbin");
    let conf = |more: Value| conf(1, json!([port(8080, 80, "tcp")]), more);
    call(node, "ADD", 1, &conf(json!({}))).ok();
    call(node, "CHECK", 1, &conf(json!({}))).ok();
    let mut asked = conf(json!({}));
    asked["backend"] = "iptables".into();
    let (_, message) = call(node, "ADD", 1, &asked).error();
    assert!(
        message.contains("iptables-save: not found") && message.contains("install iptables"),
        "{message}"
    );
    call(node, "ADD", 1, &conf(json!({}))).ok();
    call(node, "DEL", 1, &asked).ok();
    asked["cniVersion"] = "1.1.0".into();
    let (code, message) = Cni::new(BIN, "", "")
        .call(node, "STATUS", "portmap", &asked.to_string())
        .error();
    assert_eq!(code, 50, "{message}");
    node.sh("umount /usr/sbin");
    assert_nothing_left(node);
}
