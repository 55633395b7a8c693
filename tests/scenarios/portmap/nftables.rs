//! The nftables back end: its table, mappings with conditions, calls without mappings.

use super::stage::*;
use serde_json::json;
use tests::scenario;

#[scenario]
fn table_is_as_nft_lists_it() {
    let net = stage();
    let node = &net.hosts[0];
    let _pod = pod(node, 1);
    let conf = config(1, json!([port(8080, 80, "tcp")]), json!({}));
    call(node, "ADD", 1, &conf).ok();
    // nft lists the elements of a set in any order
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

#[scenario]
fn conditions_apply_to_their_own_pod_only() {
    let net = stage();
    let [node, client] = &net.hosts[..] else {
        panic!("two hosts")
    };
    let _pods = two_servers(node);
    let only = |source: &str| json!({"conditionsV4": ["ip", "saddr", source]});
    let first = config(1, json!([port(8081, 80, "tcp")]), only("192.0.2.0/24"));
    let second = config(2, json!([port(8082, 80, "tcp")]), json!({}));
    call(node, "ADD", 1, &first).ok();
    call(node, "ADD", 2, &second).ok();
    let ask = |to: &str| client.run(|| ask_tcp(to));
    assert_eq!(
        ask("172.31.0.1:8081"),
        None,
        "the condition excludes the client"
    );
    assert_eq!(
        ask("[fd31::1]:8081").as_deref(),
        Some("one"),
        "no condition for IPv6"
    );
    assert_eq!(
        ask("172.31.0.1:8082").as_deref(),
        Some("two"),
        "another pod's condition does not apply"
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
        "a failed ADD leaves nothing"
    );
    call(node, "DEL", 2, &second).ok();
    assert_nothing_left(node);
}

#[scenario]
fn without_mappings_there_is_no_process_socket_or_table() {
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
