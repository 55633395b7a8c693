//! Traffic through host ports, with each back end.

use super::stage::*;
use serde_json::json;
use std::{net::UdpSocket, thread, time::Duration};
use tests::{Case, Cni, case, process::eventually, scenarios};

type Test = fn(&'static str);

#[scenarios]
fn with_each_backend() -> Vec<Case> {
    let tests: [(&str, Test); 10] = [
        (
            "ports_are_reached_from_everywhere",
            ports_are_reached_from_everywhere,
        ),
        (
            "neighbours_on_a_bridge_reach_the_port",
            neighbours_on_a_bridge_reach_the_port,
        ),
        ("host_ip_limits_the_mapping", host_ip_limits_the_mapping),
        (
            "snat_and_masq_all_decide_the_source_address",
            snat_and_masq_all_decide_the_source_address,
        ),
        (
            "concurrent_adds_and_dels_do_not_lose_mappings",
            concurrent_adds_and_dels_do_not_lose_mappings,
        ),
        ("udp_flows_follow_the_mapping", udp_flows_follow_the_mapping),
        (
            "a_port_stays_with_a_pod_that_exists",
            a_port_stays_with_a_pod_that_exists,
        ),
        (
            "one_host_address_of_a_port_is_not_taken_from_its_pod",
            one_host_address_of_a_port_is_not_taken_from_its_pod,
        ),
        (
            "a_port_of_an_address_that_another_container_has_by_now_is_free",
            a_port_of_an_address_that_another_container_has_by_now_is_free,
        ),
        (
            "interfaces_of_one_container_keep_their_own_ports",
            interfaces_of_one_container_keep_their_own_ports,
        ),
    ];
    ["nftables", "iptables"]
        .into_iter()
        .flat_map(|backend| {
            tests.map(|(name, test)| case(&format!("{backend}/{name}"), move || test(backend)))
        })
        .collect()
}

/// Both families and protocols, from another host, the host itself, its localhost, and the pod.
fn ports_are_reached_from_everywhere(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let pod = pod(node, 1);
    serve_tcp(&pod, 80, "tcp");
    serve_udp(&pod, 53, "udp");
    let conf = config(
        1,
        json!([port(8080, 80, "tcp"), port(5353, 53, "UDP")]),
        json!({"backend": backend}),
    );
    let outcome = call(node, "ADD", 1, &conf).ok();
    assert_eq!(outcome.json()["ips"], conf["prevResult"]["ips"]);

    let tcp = Some("tcp".to_owned());
    for to in ["172.31.0.1:8080", "[fd31::1]:8080"] {
        assert_eq!(client.run(|| ask_tcp(to)), tcp, "{to} from another host");
        assert_eq!(node.run(|| ask_tcp(to)), tcp, "{to} from the host itself");
        assert_eq!(pod.run(|| ask_tcp(to)), tcp, "{to} from the pod itself");
    }
    assert_eq!(node.run(|| ask_tcp("127.0.0.1:8080")), tcp);
    for (bind, to) in [
        ("0.0.0.0:0", "172.31.0.1:5353"),
        ("[::]:0", "[fd31::1]:5353"),
    ] {
        let answer = client.run(|| ask_udp(&UdpSocket::bind(bind).expect("bind"), to));
        assert_eq!(answer, Some("udp".to_owned()), "{to}");
    }
    // a port without a mapping is not translated
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8081")), None);

    call(node, "CHECK", 1, &conf).ok();
    call(node, "DEL", 1, &conf).ok();
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8080")), None);
    assert_nothing_left(node);
}

/// A pod connects to the host port of a pod on the same bridge. Without masquerading, the reply
/// does not pass through the host.
fn neighbours_on_a_bridge_reach_the_port(backend: &'static str) {
    let net = stage();
    let node = &net.hosts[0];
    node.sh(
        "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; ip link add cni0 type bridge \
        && ip addr add 10.9.0.1/16 dev cni0 && ip link set cni0 up",
    );
    let (one, two) = (pod(node, 1), pod(node, 2));
    for (number, pod) in [(1, &one), (2, &two)] {
        node.sh(&format!("ip addr flush dev veth{number} && ip link set veth{number} master cni0 && ip link set veth{number} type bridge_slave hairpin on"));
        pod.sh(&format!(
            "ip addr flush dev eth0 scope global && ip addr add 10.9.{number}.2/16 dev eth0 \
            && ip route replace default via 10.9.0.1"
        ));
    }
    serve_tcp(&one, 80, "one");
    let mut conf = config(
        1,
        json!([port(8080, 80, "tcp")]),
        json!({"backend": backend}),
    );
    conf["prevResult"]["ips"] = json!([{"interface": 1, "address": "10.9.1.2/16"}]);
    call(node, "ADD", 1, &conf).ok();
    for (who, name) in [(&two, "a neighbour"), (&one, "the pod itself")] {
        let answer = who.run(|| ask_tcp("172.31.0.1:8080"));
        assert_eq!(answer.as_deref(), Some("one"), "{name}");
    }
    call(node, "CHECK", 1, &conf).ok();
}

fn host_ip_limits_the_mapping(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    node.sh("ip addr add 172.31.0.101/24 dev eth0");
    let _pods = two_servers(node);
    let with_ip = |ip: &str| {
        let mut mapping = port(8080, 80, "tcp");
        mapping["hostIP"] = ip.into();
        json!([mapping])
    };
    // the same port on two addresses; an IPv4 address makes no IPv6 mapping
    call(
        node,
        "ADD",
        1,
        &config(1, with_ip("172.31.0.101"), json!({"backend": backend})),
    )
    .ok();
    assert!(!ruleset(node).contains("fd09"));
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8080")), None);
    call(
        node,
        "ADD",
        2,
        &config(2, with_ip("172.31.0.1"), json!({"backend": backend})),
    )
    .ok();
    let ask = |to: &str| client.run(|| ask_tcp(to));
    assert_eq!(ask("172.31.0.101:8080").as_deref(), Some("one"));
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    // an unspecified address is any of its family; a mapping for an exact address comes first
    call(
        node,
        "ADD",
        2,
        &config(2, with_ip("0.0.0.0"), json!({"backend": backend})),
    )
    .ok();
    assert_eq!(ask("172.31.0.101:8080").as_deref(), Some("one"));
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    assert!(!ruleset(node).contains("fd09"));
    for number in [1, 2] {
        call(
            node,
            "DEL",
            number,
            &config(number, with_ip(""), json!({"backend": backend})),
        )
        .ok();
    }
    assert_nothing_left(node);
}

fn snat_and_masq_all_decide_the_source_address(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let one = pod(node, 1);
    let listener = one.run(|| std::net::TcpListener::bind(("0.0.0.0", 80)).expect("bind"));
    listener.set_nonblocking(true).expect("non-blocking");
    let caller = || {
        listener
            .accept()
            .ok()
            .map(|(_, from)| from.ip().to_string())
    };
    let mappings = json!([port(8080, 80, "tcp")]);
    let ask = || {
        std::net::TcpStream::connect_timeout(
            &"172.31.0.1:8080".parse().expect("address"),
            Duration::from_millis(500),
        )
        .is_ok()
    };

    call(
        node,
        "ADD",
        1,
        &config(1, mappings.clone(), json!({"backend": backend})),
    )
    .ok();
    assert!(client.run(ask));
    assert_eq!(
        caller().as_deref(),
        Some("172.31.0.2"),
        "the pod sees the client's address"
    );

    call(
        node,
        "ADD",
        1,
        &config(
            1,
            mappings.clone(),
            json!({"backend": backend, "masqAll": true}),
        ),
    )
    .ok();
    assert!(client.run(ask));
    assert_eq!(caller().as_deref(), Some("10.9.1.1"), "masqAll replaces it");
    // but not for a connection to the pod's own address
    client.sh("ip route add 10.9.1.0/24 via 172.31.0.1");
    assert!(client.run(|| std::net::TcpStream::connect("10.9.1.2:80").is_ok()));
    assert_eq!(caller().as_deref(), Some("172.31.0.2"));

    call(
        node,
        "ADD",
        1,
        &config(
            1,
            mappings.clone(),
            json!({"backend": backend, "snat": false}),
        ),
    )
    .ok();
    assert!(!one.run(ask), "without snat the pod does not reach itself");
    assert!(client.run(ask));
    assert_eq!(caller().as_deref(), Some("172.31.0.2"));
    let listed = ruleset(node);
    assert!(!listed.contains("127.0.0.1"), "{listed}");
}

/// The first ADD is on a node without the table.
fn concurrent_adds_and_dels_do_not_lose_mappings(backend: &'static str) {
    let net = stage();
    let node = &net.hosts[0];
    let all = |verb: &str| {
        thread::scope(|scope| {
            for number in 1..=24 {
                scope.spawn(move || {
                    let mappings = json!([port(8000 + u16::from(number), 80, "tcp")]);
                    call(
                        node,
                        verb,
                        number,
                        &config(number, mappings, json!({"backend": backend})),
                    )
                    .ok();
                });
            }
        });
    };
    all("ADD");
    let rules = ruleset(node) + &node.sh("ip6tables-save -t nat");
    for number in 1..=24 {
        for target in [format!("10.9.{number}.2"), format!("fd09:{number}::2")] {
            assert!(rules.contains(&target), "{target} is not in\n{rules}");
        }
    }
    for jump in ["jump map_hostports", "jump CNI-HOSTPORT-DNAT"] {
        let found = rules.matches(jump).count();
        assert!([0, 4].contains(&found), "{found} times {jump} in\n{rules}");
    }
    all("CHECK");
    all("DEL");
    assert_nothing_left(node);
}

fn udp_flows_follow_the_mapping(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (one, two) = (pod(node, 1), pod(node, 2));
    serve_udp(&one, 53, "one");
    serve_udp(&two, 53, "two");
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    let ask = || client.run(|| ask_udp(&socket, "172.31.0.1:5353"));
    let conf = |number| {
        config(
            number,
            json!([port(5353, 53, "udp")]),
            json!({"backend": backend}),
        )
    };
    // without a mapping, conntrack has the host as the destination
    assert_eq!(ask(), None);
    call(node, "ADD", 1, &conf(1)).ok();
    assert_eq!(ask().as_deref(), Some("one"));
    call(node, "DEL", 1, &conf(1)).ok();
    assert_eq!(ask(), None, "the flow ends with the mapping");
    call(node, "ADD", 2, &conf(2)).ok();
    assert_eq!(ask().as_deref(), Some("two"));
    // the removal of another pod's mapping keeps the flow
    let before = node.sh("conntrack -L -p udp --orig-port-dst 5353 2>/dev/null");
    assert!(before.contains("10.9.2.2"), "{before}");
    call(node, "DEL", 1, &conf(1)).ok();
    assert_eq!(ask().as_deref(), Some("two"));
}

fn a_port_stays_with_a_pod_that_exists(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (one, two) = (pod(node, 1), pod(node, 2));
    serve_tcp(&two, 80, "two");
    let conf = |number| {
        config(
            number,
            json!([
                port(8080, 80, "tcp"),
                port(8080 + u16::from(number), 80, "tcp")
            ]),
            json!({"backend": backend}),
        )
    };
    let first = conf(1);
    let ask = |to: &str| client.run(|| ask_tcp(to));
    call(node, "ADD", 1, &first).ok();
    // ADD is idempotent
    call(node, "ADD", 1, &first).ok();
    let (code, message) = call(node, "ADD", 2, &conf(2)).error();
    assert_eq!(code, 100, "{message}");
    for words in ["8080", "container1", "/"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(ask("172.31.0.1:8082"), None, "a refused ADD leaves nothing");
    call(node, "DEL", 2, &conf(2)).ok();
    call(node, "CHECK", 1, &first).ok();
    // the DEL of the first pod is missing
    one.delete();
    let add = || (call(node, "ADD", 2, &conf(2)).code == 0).then_some(());
    eventually(
        "the kernel ends the namespace",
        Duration::from_secs(20),
        add,
    );
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    // and arrives late
    call(node, "DEL", 1, &first).ok();
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    call(node, "CHECK", 2, &conf(2)).ok();
    call(node, "DEL", 2, &conf(2)).ok();
    assert_nothing_left(node);
}

/// A mapping without a host address has the port on every address of the host.
fn one_host_address_of_a_port_is_not_taken_from_its_pod(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (one, _two) = two_servers(node);
    let conf = |number: u8, ip: &str| {
        let mut mapping = port(8080, 80, "tcp");
        mapping["hostIP"] = ip.into();
        config(number, json!([mapping]), json!({"backend": backend}))
    };
    let ask = |to: &str| client.run(|| ask_tcp(to));
    call(node, "ADD", 1, &conf(1, "")).ok();
    for ip in ["172.31.0.1", "fd31::1"] {
        let (code, message) = call(node, "ADD", 2, &conf(2, ip)).error();
        assert_eq!(code, 100, "{message}");
        assert!(message.contains("container1"), "{message}");
    }
    for to in ["172.31.0.1:8080", "[fd31::1]:8080"] {
        assert_eq!(ask(to).as_deref(), Some("one"), "{to}");
    }
    one.delete();
    let add = || (call(node, "ADD", 2, &conf(2, "172.31.0.1")).code == 0).then_some(());
    eventually("the first pod ends", Duration::from_secs(20), add);
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    call(node, "CHECK", 2, &conf(2, "172.31.0.1")).ok();
    call(node, "DEL", 1, &conf(1, "")).ok();
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    call(node, "DEL", 2, &conf(2, "172.31.0.1")).ok();
    assert_nothing_left(node);
}

/// The DEL of a dead container never came, and IPAM has given its address to another one.
fn a_port_of_an_address_that_another_container_has_by_now_is_free(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (_one, two) = (pod(node, 1), pod(node, 2));
    serve_tcp(&two, 80, "two");
    let conf = |number| {
        let mappings = json!([port(8080, 80, "tcp")]);
        config(number, mappings, json!({"backend": backend}))
    };
    call(node, "ADD", 1, &conf(1)).ok();
    let owner = |alias: &str| node.sh(&format!("ip link set veth1 alias '{alias}'"));
    // as the bridge plugin names the owner of a link
    for alive in [
        "cni-bridge cbr0 container1 eth0",
        "an alias of the operator",
    ] {
        owner(alive);
        assert_eq!(call(node, "ADD", 2, &conf(2)).error().0, 100, "{alive}");
    }
    owner("cni-bridge cbr0 container9 eth0");
    call(node, "ADD", 2, &conf(2)).ok();
    let answer = client.run(|| ask_tcp("172.31.0.1:8080"));
    assert_eq!(answer.as_deref(), Some("two"));
    // the late DEL of the first
    call(node, "DEL", 1, &conf(1)).ok();
    call(node, "CHECK", 2, &conf(2)).ok();
    call(node, "DEL", 2, &conf(2)).ok();
    assert_nothing_left(node);
}

/// The second interface has a port of its own, and one that the first has already.
fn interfaces_of_one_container_keep_their_own_ports(backend: &'static str) {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let pod = pod(node, 1);
    pod.sh(
        "ip link add net1 type bridge && ip addr add 10.9.77.2/24 dev net1 && ip link set net1 up",
    );
    node.sh("ip route add 10.9.77.0/24 via 10.9.1.2");
    serve_tcp(&pod, 80, "first");
    serve_tcp(&pod, 81, "second");
    let first = config(
        1,
        json!([port(8080, 80, "tcp")]),
        json!({"backend": backend}),
    );
    let mut exact = port(8080, 81, "tcp");
    exact["hostIP"] = "172.31.0.1".into();
    let mut second = config(
        1,
        json!([port(8081, 81, "tcp"), port(8080, 81, "tcp"), exact]),
        json!({"backend": backend}),
    );
    second["prevResult"]["interfaces"][1]["name"] = "net1".into();
    second["prevResult"]["ips"] = json!([{"interface": 1, "address": "10.9.77.2/24"}]);
    let net1 = |verb: &str| {
        Cni::new(BIN, "container1", "/run/netns/pod1")
            .with("CNI_IFNAME", "net1")
            .call(node, verb, "portmap", &second.to_string())
    };
    let ask = |port: u16| client.run(|| ask_tcp(&format!("172.31.0.1:{port}")));
    call(node, "ADD", 1, &first).ok();
    net1("ADD").ok();
    assert_eq!(ask(8080).as_deref(), Some("first"));
    assert_eq!(ask(8081).as_deref(), Some("second"));
    call(node, "CHECK", 1, &first).ok();
    net1("CHECK").ok();
    net1("DEL").ok();
    assert_eq!(ask(8080).as_deref(), Some("first"));
    assert_eq!(ask(8081), None);
    net1("ADD").ok();
    call(node, "DEL", 1, &first).ok();
    assert_eq!(ask(8081).as_deref(), Some("second"));
    net1("DEL").ok();
    assert_nothing_left(node);
}
