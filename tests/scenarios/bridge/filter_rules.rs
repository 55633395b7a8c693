//! Masquerade and spoof check: their effect, their rules, and the clean-up of the rules.

use super::node::{Node, Plugins, V4, V6, conf};
use serde_json::json;
use tests::scenario;

#[scenario]
fn pods_are_masqueraded_by_nftables() {
    masquerade(&Node::suite(), "nftables");
}

#[scenario]
fn pods_are_masqueraded_by_iptables() {
    masquerade(&Node::suite(), "iptables");
}

#[scenario]
fn pods_are_masqueraded_by_legacy_iptables() {
    masquerade(&legacy(), "iptables");
}

/// A host outside the cluster without a route to the pods: it answers only masqueraded packets.
fn outside(node: &Node) {
    let outside = node.host.pod("outside");
    node.host.sh(
        "ip link add out type veth peer name eth0 netns outside && ip link set out up \
         && ip addr add 192.0.2.1/24 dev out && ip addr add fd02::1/64 dev out nodad",
    );
    outside.sh(
        "ip link set eth0 up && ip addr add 192.0.2.2/24 dev eth0 && ip addr add fd02::2/64 dev eth0 nodad",
    );
}

/// A node plugins `iptables` is iptables-legacy.
fn legacy() -> Node {
    let node = Node::suite();
    node.host.sh(
        "cp -a /etc/alternatives /run/alternatives && cd /run/alternatives && for p in iptables ip6tables; do \
         ln -sf /usr/sbin/$p-legacy $p; ln -sf /usr/sbin/$p-legacy-save $p-save; \
         ln -sf /usr/sbin/$p-legacy-restore $p-restore; done && mount --bind /run/alternatives /etc/alternatives \
         && iptables -V | grep -q legacy",
    );
    node
}

/// The rules of nftables and of both variants of iptables.
fn rules(node: &Node) -> String {
    node.host
        .sh("nft list ruleset; iptables-save -t nat; ip6tables-save -t nat")
}

fn masquerade(node: &Node, backend: &str) {
    outside(node);
    let with = conf(
        &[V4, V6],
        json!({ "ipMasq": true, "ipMasqBackend": backend }),
    );
    let (without, _) = node.attach("without", &conf(&[V4, V6], json!({})));
    let (pod, _) = node.attach("with", &with);
    for address in ["192.0.2.2", "fd02::2"] {
        pod.sh(&format!("ping -c1 -W3 {address}"));
        let unanswered = without.try_sh(&format!("ping -c1 -W1 {address}"));
        assert!(!unanswered.status.success());
    }
    node.call("DEL", "with", &with).ok();
    node.call("DEL", "without", &with).ok();
    node.assert_clean();
    let rules = rules(node);
    assert!(
        !rules.contains("with") && !rules.contains("CNI-"),
        "{rules}"
    );
}

/// Each plugin also removes the rules of the other.
#[scenario]
fn iptables_rules_equal_upstreams() {
    let conf = conf(&[V4, V6], json!({ "ipMasq": true }));
    let texts = [Plugins::Suite, Plugins::Debian].map(|plugins| {
        let node = Node::new(plugins);
        node.attach("a", &conf);
        let text = node.host.sh("iptables-save -t nat; ip6tables-save -t nat");
        let other = match plugins {
            Plugins::Suite => node.with_plugins(Plugins::Debian),
            Plugins::Debian => node.with_plugins(Plugins::Suite),
        };
        other.call("DEL", "a", &conf).ok();
        let rest = rules(&other);
        assert!(!rest.contains("CNI-"), "{rest}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(texts[0], texts[1]);
}

/// Whichever interface is removed first, and also if an ADD of the second fails.
#[scenario]
fn two_interfaces_of_one_container_are_masqueraded_by_iptables() {
    let node = Node::suite();
    outside(&node);
    let masq = json!({ "ipMasq": true, "ipMasqBackend": "iptables" });
    let first = conf(&[V4], masq.clone());
    let mut second = conf(&["10.9.0.0/24"], masq);
    second["bridge"] = json!("cni1");
    second["isDefaultGateway"] = json!(false);
    second["isGateway"] = json!(true);
    second["ipam"]["dataDir"] = json!("/run/second");
    let (pod, _) = node.attach("a", &first);
    let eth1 = |verb: &str, conf: &serde_json::Value| {
        let cni = node.cni("a").with("CNI_IFNAME", "eth1");
        cni.call(&node.host, verb, "bridge", &conf.to_string())
    };
    let by_eth0 = "ip route replace default via 10.244.7.1 && ping -c1 -W3 192.0.2.2";
    let by_eth1 = "ip route replace default via 10.9.0.1 && ping -c1 -W3 192.0.2.2";

    let mut failing = second.clone();
    failing["ipam"]["routes"] = json!([{ "dst": "192.0.2.128/25", "gw": "203.0.113.1" }]);
    eth1("ADD", &failing).error();
    pod.sh(by_eth0);
    eth1("ADD", &second).ok();
    pod.sh(by_eth0);
    pod.sh(by_eth1);
    eth1("DEL", &second).ok();
    pod.sh(by_eth0);
    eth1("ADD", &second).ok();
    let mut collected = first.clone();
    collected["cniVersion"] = json!("1.1.0");
    collected["cni.dev/valid-attachments"] = json!([{ "containerID": "a", "ifname": "eth1" }]);
    node.call("DEL", "a", &first).ok();
    node.call("GC", "", &collected).ok();
    pod.sh(by_eth1);
    eth1("DEL", &second).ok();
    let saved = node.host.sh("iptables-save -t nat");
    assert!(!saved.contains("CNI-"), "{saved}");
}

/// Upstream, and this plugin before, made one chain for all interfaces of a container.
#[scenario]
fn rules_in_a_chain_of_several_interfaces_are_removed_with_their_interface() {
    let node = Node::suite();
    let conf = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "iptables" }),
    );
    let pod = node.host.pod("1234");
    node.host.sh(&format!("iptables -t nat -N CNI-{SHARED}"));
    for address in ["10.244.7.2", "10.9.0.2"] {
        node.host.sh(&format!(
            "iptables -t nat -A POSTROUTING -s {address} -j CNI-{SHARED} \
             -m comment --comment 'name: \"net\" id: \"1234\"'"
        ));
    }
    let del = |netns: &str, prev_result: bool| {
        let mut conf = conf.clone();
        if prev_result {
            conf["prevResult"] =
                json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.9.0.2/24" }] });
        }
        let cni = node
            .cni("1234")
            .with("CNI_IFNAME", "eth1")
            .with("CNI_NETNS", netns);
        cni.call(&node.host, "DEL", "bridge", &conf.to_string())
            .ok();
        node.host.sh("iptables-save -t nat")
    };
    let both = del(&pod.path(), false);
    assert!(
        both.contains("-s 10.9.0.2/32") && both.contains("-s 10.244.7.2/32"),
        "{both}"
    );
    let one = del(&pod.path(), true);
    assert!(
        !one.contains("-s 10.9.0.2/32") && one.contains("-s 10.244.7.2/32"),
        "{one}"
    );
    let none = del("", false);
    assert!(!none.contains("CNI-"), "{none}");
}

/// The digits of upstream's chain for container 1234 in network net.
const SHARED: &str = "812218d7f262e76b0ba2c915";

#[scenario]
fn iptables_rules_are_checked_and_removed_by_name() {
    let node = Node::suite();
    let mut conf = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "iptables" }),
    );
    conf["cniVersion"] = json!("1.1.0");
    let (_, result) = node.attach("a", &conf);
    for id in ["b", "c"] {
        let (pod, _) = node.attach(id, &conf);
        pod.delete();
    }
    let mut checked = conf.clone();
    checked["prevResult"] = result;
    node.call("CHECK", "a", &checked).ok();
    let count = |node: &Node| {
        node.host
            .sh("iptables-save -t nat")
            .matches(":CNI-")
            .count()
    };
    assert_eq!(count(&node), 3);
    let nowhere = node.cni("b").with("CNI_NETNS", "");
    nowhere
        .call(&node.host, "DEL", "bridge", &conf.to_string())
        .ok();
    assert_eq!(count(&node), 2);
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "a", "ifname": "eth0" }]);
    node.call("GC", "", &conf).ok();
    assert_eq!(count(&node), 1);
    node.call("CHECK", "a", &checked).ok();
    node.host.sh("iptables -t nat -F POSTROUTING");
    assert_eq!(
        node.call("CHECK", "a", &checked).error().1,
        "masquerade rules of container a are missing or changed"
    );
}

#[scenario]
fn nftables_masquerades_where_iptables_does_not_work() {
    let node = Node::suite();
    outside(&node);
    node.host.sh(
        "cp -a /etc/alternatives /run/alternatives && ln -sf /bin/false /run/alternatives/iptables-restore \
         && mount --bind /run/alternatives /etc/alternatives",
    );
    let unset = conf(&[V4], json!({ "ipMasq": true }));
    let (pod, result) = node.attach("a", &unset);
    pod.sh("ping -c1 -W3 192.0.2.2");
    let mut checked = unset.clone();
    checked["prevResult"] = result;
    node.call("CHECK", "a", &checked).ok();
    node.call("DEL", "a", &unset).ok();
    assert!(!node.host.sh("nft list ruleset").contains("id: a"));

    let requested = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "iptables" }),
    );
    let (_, message) = node.call("ADD", "a", &requested).error();
    assert!(
        message.starts_with("failed to set up the masquerade rules: iptables-restore failed"),
        "{message}"
    );
    node.assert_clean();
}

/// One rule for each address. The next ADD restores deleted shared rules.
#[scenario]
fn nftables_rules_equal_upstreams() {
    let node = Node::suite();
    let conf = conf(
        &[V4, V6],
        json!({ "ipMasq": true, "ipMasqBackend": "nftables" }),
    );
    node.attach("a", &conf);
    let comment = |prefix: &str| format!("{prefix}, net: net, if: eth0, id: a");
    let table = |node: &Node| node.host.sh("nft list table inet cni_plugins_masquerade");
    let text = table(&node);
    // the first 16 hex digits of the SHA-512 of "net" and of "eth0:a"
    let digest = |text: &str| {
        let command = format!("printf %s '{text}' | sha512sum | cut -c1-16");
        node.host.sh(&command).trim().to_owned()
    };
    let prefix = format!("{}-{}", digest("net"), digest("eth0:a"));
    for line in [
        "comment \"Masquerading for plugins from github.com/containernetworking/plugins\"",
        "comment \"Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet\"",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip daddr 224.0.0.0/4 return",
        "ip6 daddr ff00::/8 return",
        "goto masq_checks",
        &format!(
            "ip saddr 10.244.7.2 ip daddr != 10.244.7.0/24 masquerade comment \"{}\"",
            comment(&prefix)
        ),
        &format!(
            "ip6 saddr fd00:7::2 ip6 daddr != fd00:7::/64 masquerade comment \"{}\"",
            comment(&prefix)
        ),
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    for damage in [
        "nft flush chain inet cni_plugins_masquerade postrouting",
        "nft flush ruleset",
    ] {
        node.host.sh(damage);
        let id = format!("b{}", damage.len());
        node.attach(&id, &conf);
        let text = table(&node);
        assert!(text.contains("goto masq_checks"), "{text}");
        assert!(text.contains(&format!("id: {id}")), "{text}");
    }
}

/// Another pod's rules stay.
#[scenario]
fn del_removes_rules_without_prev_result_namespace_and_keys() {
    let node = Node::suite();
    let with = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "nftables", "macspoofchk": true }),
    );
    let (pod, _) = node.attach("a", &with);
    node.attach("stays", &with);
    pod.delete();
    let plain = conf(&[V4], json!({}));
    node.cni("a")
        .with("CNI_NETNS", "")
        .call(&node.host, "DEL", "bridge", &plain.to_string())
        .ok();
    let rules = node.host.sh("nft list ruleset");
    assert!(
        !rules.contains("id: a\"") && !rules.contains("-a-eth0"),
        "{rules}"
    );
    assert!(rules.contains("id: stays\"") && rules.contains("-stays-eth0"));
}

#[scenario]
fn frames_with_a_spoofed_mac_are_dropped() {
    let node = Node::suite();
    let checked = conf(&[V4], json!({ "macspoofchk": true }));
    let (pod, result) = node.attach("a", &checked);
    let ping = "ping -c1 -W3 10.244.7.1";
    pod.sh(ping);
    pod.sh("ip link set eth0 address 02:00:00:00:00:66");
    assert!(!pod.try_sh(ping).status.success());
    let mac = result["interfaces"][2]["mac"].as_str().expect("mac");
    // neighbour solicitations are repeated once a second
    pod.sh(&format!(
        "ip link set eth0 address {mac} && ping -c1 -W5 10.244.7.1"
    ));
    node.call("DEL", "a", &checked).ok();
    let rules = node.host.sh("nft list ruleset");
    assert!(!rules.contains("cni-br-iface"), "{rules}");
}

/// Each plugin also removes the rules of the other.
#[scenario]
fn spoof_check_rules_equal_upstreams() {
    let checked = conf(
        &[V4],
        json!({ "macspoofchk": true, "runtimeConfig": { "mac": "02:00:00:00:00:07" } }),
    );
    let texts = [Plugins::Suite, Plugins::Debian].map(|plugins| {
        let node = Node::new(plugins);
        let (_pod, result) = node.attach("a", &checked);
        let name = result["interfaces"][1]["name"].as_str().expect("name");
        let text = node.host.sh("nft list table bridge nat");
        let other = match plugins {
            Plugins::Suite => node.with_plugins(Plugins::Debian),
            Plugins::Debian => node.with_plugins(Plugins::Suite),
        };
        other.call("DEL", "a", &checked).ok();
        let rest = other.host.sh("nft list ruleset");
        assert!(!rest.contains("cni-br-iface"), "{rest}");
        text.replace(name, "HOSTVETH")
    });
    assert_eq!(texts[0], texts[1]);
}
