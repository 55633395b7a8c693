//! Traffic through host ports with the nftables back end.

use std::{net::UdpSocket, thread};

use serde_json::json;
use tests::{Case, case};

use super::stage::*;

pub fn cases() -> Vec<Case> {
    vec![
        case("portmap/nftables/from-everywhere", from_everywhere),
        case("portmap/nftables/as-listed", as_listed),
        case("portmap/nftables/neighbours-on-a-bridge", neighbours),
        case("portmap/nftables/host-ip", host_ip),
        case("portmap/nftables/snat-and-masq-all", snat),
        case("portmap/nftables/conditions-are-each-pod-s-own", conditions),
        case("portmap/nftables/nothing-to-map", nothing_to_map),
        case("portmap/nftables/many-at-once", many_at_once),
        case("portmap/nftables/udp-flows-move", udp_flows),
    ]
}

/// Both families and protocols, from another host, the host itself, its localhost, and the pod.
fn from_everywhere() {
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
        json!({}),
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
    // what is not the host's own address is left alone
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8081")), None);

    call(node, "CHECK", 1, &conf).ok();
    call(node, "DEL", 1, &conf).ok();
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8080")), None);
    nothing_left(node);
}

fn as_listed() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let conf = config(1, json!([port(8080, 80, "tcp")]), json!({}));
    call(node, "ADD", 1, &conf).ok();
    // sets have no order
    let pair = |source: &str| format!("{source} . 10.9.1.2 comment \"container1 eth0 cbr0\"");
    let other_order = [pair("127.0.0.1"), pair("10.9.1.0")].join(",\n\t\t\t     ");
    let one_order = [pair("10.9.1.0"), pair("127.0.0.1")].join(",\n\t\t\t     ");
    assert_eq!(
        node.sh("nft list table ip cni_hostport")
            .replace(&other_order, &one_order),
        r#"table ip cni_hostport {
	comment "CNI portmap plugin"
	map hostports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 comment "container1 eth0 cbr0" : 10.9.1.2 . 80 }
	}

	map hostip_hostports {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	set masquerade_pairs {
		type ipv4_addr . ipv4_addr
		elements = { 10.9.1.0 . 10.9.1.2 comment "container1 eth0 cbr0",
			     127.0.0.1 . 10.9.1.2 comment "container1 eth0 cbr0" }
	}

	set masquerade_all {
		type ipv4_addr
	}

	chain map_conditional {
	}

	chain map_subnets {
		ct status dnat ip saddr & 255.255.255.0 . ip daddr @masquerade_pairs masquerade
	}

	chain map_hostports {
		jump map_conditional
		dnat ip to ip daddr . meta l4proto . th dport map @hostip_hostports
		dnat ip to meta l4proto . th dport map @hostports
	}

	chain map_prerouting {
		type nat hook prerouting priority dstnat + 1; policy accept;
		fib daddr type local jump map_hostports
	}

	chain map_output {
		type nat hook output priority -99; policy accept;
		fib daddr type local jump map_hostports
	}

	chain map_masquerading {
		type nat hook postrouting priority srcnat + 1; policy accept;
		ip saddr . ip daddr @masquerade_pairs masquerade
		jump map_subnets
		ct status dnat ip daddr @masquerade_all masquerade
	}
}
"#
    );
    let ipv6 = node.sh("nft list table ip6 cni_hostport");
    for words in [
        "tcp . 8080 comment \"container1 eth0 cbr0\" : fd09:1::2 . 80",
        "dnat ip6 to meta l4proto . th dport map @hostports",
    ] {
        assert!(ipv6.contains(words), "{words} is not in\n{ipv6}");
    }
    assert_eq!(
        node.sh("cat /proc/sys/net/ipv4/conf/veth1/route_localnet")
            .trim(),
        "1"
    );
}

/// A pod asks for the host port of another on the same bridge, whose answer would not come back through the host by itself.
fn neighbours() {
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
    let mut conf = config(1, json!([port(8080, 80, "tcp")]), json!({}));
    conf["prevResult"]["ips"] = json!([{"interface": 1, "address": "10.9.1.2/16"}]);
    call(node, "ADD", 1, &conf).ok();
    for (who, name) in [(&two, "a neighbour"), (&one, "the pod itself")] {
        let answer = who.run(|| ask_tcp("172.31.0.1:8080"));
        assert_eq!(answer.as_deref(), Some("one"), "{name}");
    }
    call(node, "CHECK", 1, &conf).ok();
    node.sh("nft flush chain ip cni_hostport map_subnets");
    call(node, "CHECK", 1, &conf).error();
}

fn host_ip() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    node.sh("ip addr add 172.31.0.101/24 dev eth0");
    let (one, two) = (pod(node, 1), pod(node, 2));
    serve_tcp(&one, 80, "one");
    serve_tcp(&two, 80, "two");
    let with_ip = |ip: &str| {
        let mut mapping = port(8080, 80, "tcp");
        mapping["hostIP"] = ip.into();
        json!([mapping])
    };
    // the same port on two addresses; an address of IPv4 makes no mapping of IPv6
    call(
        node,
        "ADD",
        1,
        &config(1, with_ip("172.31.0.101"), json!({})),
    )
    .ok();
    assert!(!ruleset(node).contains("fd09"));
    assert_eq!(client.run(|| ask_tcp("172.31.0.1:8080")), None);
    call(node, "ADD", 2, &config(2, with_ip("172.31.0.1"), json!({}))).ok();
    let ask = |to: &str| client.run(|| ask_tcp(to));
    assert_eq!(ask("172.31.0.101:8080").as_deref(), Some("one"));
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    // an unspecified address is any of its family; an exact one still comes first
    call(node, "ADD", 2, &config(2, with_ip("0.0.0.0"), json!({}))).ok();
    assert_eq!(ask("172.31.0.101:8080").as_deref(), Some("one"));
    assert_eq!(ask("172.31.0.1:8080").as_deref(), Some("two"));
    assert!(!ruleset(node).contains("fd09"));
    for number in [1, 2] {
        call(node, "DEL", number, &config(number, with_ip(""), json!({}))).ok();
    }
    nothing_left(node);
}

/// Who the pod sees as its caller.
fn snat() {
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
            std::time::Duration::from_millis(500),
        )
        .is_ok()
    };

    call(node, "ADD", 1, &config(1, mappings.clone(), json!({}))).ok();
    assert!(client.run(ask));
    assert_eq!(
        caller().as_deref(),
        Some("172.31.0.2"),
        "a stranger's address is seen"
    );

    call(
        node,
        "ADD",
        1,
        &config(1, mappings.clone(), json!({"masqAll": true})),
    )
    .ok();
    assert!(client.run(ask));
    assert_eq!(caller().as_deref(), Some("10.9.1.1"), "masqAll hides it");
    // but not that of one who asks the pod itself
    client.sh("ip route add 10.9.1.0/24 via 172.31.0.1");
    assert!(client.run(|| std::net::TcpStream::connect("10.9.1.2:80").is_ok()));
    assert_eq!(caller().as_deref(), Some("172.31.0.2"));

    call(
        node,
        "ADD",
        1,
        &config(1, mappings.clone(), json!({"snat": false})),
    )
    .ok();
    assert!(!one.run(ask), "without snat the pod does not reach itself");
    assert!(client.run(ask));
    assert_eq!(caller().as_deref(), Some("172.31.0.2"));
    let listed = ruleset(node);
    assert!(!listed.contains("127.0.0.1"), "{listed}");
}

fn conditions() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (one, two) = (pod(node, 1), pod(node, 2));
    serve_tcp(&one, 80, "one");
    serve_tcp(&two, 80, "two");
    let only = |source: &str| json!({"conditionsV4": ["ip", "saddr", source]});
    let first = config(1, json!([port(8081, 80, "tcp")]), only("192.0.2.0/24"));
    let second = config(2, json!([port(8082, 80, "tcp")]), json!({}));
    call(node, "ADD", 1, &first).ok();
    call(node, "ADD", 2, &second).ok();
    let ask = |to: &str| client.run(|| ask_tcp(to));
    assert_eq!(ask("172.31.0.1:8081"), None, "not from there");
    assert_eq!(
        ask("[fd31::1]:8081").as_deref(),
        Some("one"),
        "no condition for IPv6"
    );
    assert_eq!(
        ask("172.31.0.1:8082").as_deref(),
        Some("two"),
        "no condition of another pod's"
    );
    call(node, "CHECK", 1, &first).ok();

    let again = config(1, json!([port(8081, 80, "tcp")]), only("172.31.0.0/24"));
    call(node, "ADD", 1, &again).ok();
    assert_eq!(ask("172.31.0.1:8081").as_deref(), Some("one"));
    let rules = ruleset(node);
    assert_eq!(rules.matches("dport 8081").count(), 1, "{rules}");

    let bad = config(1, json!([port(8081, 80, "tcp")]), only("nonsense"));
    let (code, message) = call(node, "ADD", 1, &bad).error();
    assert_eq!(code, 999);
    assert!(message.contains("nonsense"), "{message}");
    assert!(
        !ruleset(node).contains("8081"),
        "nothing of a failed ADD stays"
    );
    call(node, "DEL", 2, &second).ok();
    nothing_left(node);
}

/// No process, no socket, no table.
fn nothing_to_map() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let before = ruleset(node);
    for version in ["0.3.1", "1.1.0"] {
        for mappings in [json!([]), json!(null)] {
            for verb in ["ADD", "DEL"] {
                let mut conf = config(1, mappings.clone(), json!({"cniVersion": version}));
                conf["prevResult"]["cniVersion"] = version.into();
                conf.as_object_mut().expect("object").remove("backend");
                let trace = node.sh(&format!(
                    "cat > /run/conf <<'END'\n{conf}\nEND\n\
                     CNI_COMMAND={verb} CNI_CONTAINERID=container1 CNI_NETNS=/run/netns/pod1 CNI_IFNAME=eth0 \
                     CNI_PATH={BIN} strace -f -o /run/trace -e trace=socket,execve,fork,vfork,clone,clone3 \
                     {BIN}/portmap < /run/conf > /run/result; cat /run/trace"
                ));
                assert_eq!(trace.matches("execve(").count(), 1, "{trace}");
                for call in ["socket(", "clone", "fork("] {
                    assert!(!trace.contains(call), "{call} in\n{trace}");
                }
                let result = node.sh("cat /run/result");
                assert_eq!(result.contains("10.9.1.2/24"), verb == "ADD", "{result}");
            }
        }
    }
    assert_eq!(ruleset(node), before);
}

/// 24 pods come and go at the same time, the first of them on a node without the table.
fn many_at_once() {
    let net = stage();
    let node = &net.hosts[0];
    let all = |verb: &str| {
        thread::scope(|scope| {
            for number in 1..=24 {
                scope.spawn(move || {
                    let mappings = json!([port(8000 + u16::from(number), 80, "tcp")]);
                    call(node, verb, number, &config(number, mappings, json!({}))).ok();
                });
            }
        });
    };
    all("ADD");
    let rules = ruleset(node);
    for number in 1..=24 {
        let element = format!("tcp . {} comment", 8000 + number);
        assert_eq!(rules.matches(&element).count(), 2, "{element} in\n{rules}");
    }
    assert_eq!(rules.matches("jump map_hostports").count(), 4, "{rules}");
    all("CHECK");
    all("DEL");
    nothing_left(node);
}

/// A sender that never pauses reaches the pod that has the port now.
fn udp_flows() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let (one, two) = (pod(node, 1), pod(node, 2));
    serve_udp(&one, 53, "one");
    serve_udp(&two, 53, "two");
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    let ask = || client.run(|| ask_udp(&socket, "172.31.0.1:5353"));
    let conf = |number| config(number, json!([port(5353, 53, "udp")]), json!({}));
    // before there is a mapping, the host itself is remembered as who is meant
    assert_eq!(ask(), None);
    call(node, "ADD", 1, &conf(1)).ok();
    assert_eq!(ask().as_deref(), Some("one"));
    call(node, "DEL", 1, &conf(1)).ok();
    assert_eq!(ask(), None, "the flow ends with the mapping");
    call(node, "ADD", 2, &conf(2)).ok();
    assert_eq!(ask().as_deref(), Some("two"));
    // another pod's flow stays when a mapping goes
    let before = node.sh("conntrack -L -p udp --orig-port-dst 5353 2>/dev/null");
    assert!(before.contains("10.9.2.2"), "{before}");
    call(node, "DEL", 1, &conf(1)).ok();
    assert_eq!(ask().as_deref(), Some("two"));
}
