//! What a node publishes about itself, and how it follows its object while it runs.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, V6};
use crate::flanneld::store_away::{kept, reboot};
use serde_json::{Value, json};
use std::thread;
use tests::{
    Fault,
    go_flanneld::without_kubernetes_and_go_flanneld,
    kubernetes::{Patch, without_kubernetes},
    process::eventually,
    scenario, subnet_env,
};

/// The PATCH bodies that reached the API server, with the times left out.
fn patches(cluster: &Cluster) -> Vec<(String, String, String)> {
    let requests = cluster.proxy.take_requests().into_iter();
    requests
        .filter(|request| request.is_patch() && request.status() == 200)
        .map(|request| {
            let body = without_times(&request.body);
            (
                format!("{}?{}", request.path, request.query),
                request.content_type,
                body,
            )
        })
        .collect()
}

/// Every time like 2026-11-21T08:09:05Z replaced by T.
fn without_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_time = |at: usize| {
        let Some(time) = bytes.get(at..at + 20) else {
            return false;
        };
        let pattern = b"0000-00-00T00:00:00Z";
        let mut pairs = time.iter().zip(pattern);
        pairs.all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
    };
    let mut result = String::new();
    let mut at = 0;
    while at < bytes.len() {
        if is_time(at) {
            result.push('T');
            at += 20;
        } else {
            result.push(char::from(bytes[at]));
            at += 1;
        }
    }
    result
}

/// On the same host and node the Go flanneld and ours send the same bytes, and leave the same
/// annotations and condition.
#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn published_bytes_are_those_of_the_go_flanneld() {
    for net_conf in [V4, V6, DUAL] {
        let cluster = Cluster::new(1, net_conf);
        let mut go = cluster.start_go(1);
        go.wait_ready();
        cluster.wait_condition(1);
        // with IPv6 the MTU of Go's is 20 larger than what fits
        let mtu = if net_conf == V4 { 1450 } else { 1430 };
        let env = cluster.host(1).sh("cat /run/flannel/subnet.env");
        let expected = (
            cluster.annotations(1),
            without_times(&cluster.wait_condition(1).to_string()),
            patches(&cluster),
            env.replace("MTU=1450", &format!("MTU={mtu}")),
        );
        go.stop();
        cluster.server.delete_node("host1");
        cluster.create_node(1, 1);
        let mut ours = cluster.start(1);
        ours.wait_ready();
        let condition = cluster.wait_condition(1);
        let found = (
            cluster.annotations(1),
            without_times(&condition.to_string()),
            patches(&cluster),
            cluster.host(1).sh("cat /run/flannel/subnet.env"),
        );
        assert_eq!(found, expected, "{net_conf}");
        assert_eq!(found.2.len(), 2, "{:?}", found.2);
        drop(ours);
    }
}

/// The one of a host's two IPv6 addresses that it is not reached by.
fn other_ipv6(ipv6: &str) -> &'static str {
    match ipv6 {
        "fd31::1" => "fd31::65",
        _ => "fd31::1",
    }
}

/// The public IP that an administrator overwrites is published and used by peers; the device keeps
/// its own.
#[scenario(unless = without_kubernetes)]
fn overwritten_public_ip_is_followed() {
    let cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    host.sh(
        "ip addr add 172.31.0.101/24 dev eth0 && ip addr add 172.31.0.102/24 dev eth0 \
         && ip addr add fd31::65/64 dev eth0 nodad",
    );
    let mut daemons = cluster.start_all();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    let ipv6 = cluster.annotation(1, "public-ipv6");
    let device = || host.sh("ip -d link show flannel.1");
    let local = device();
    assert!(local.contains("local 172.31.0.1 "), "{local}");
    for ip in ["172.31.0.101", "172.31.0.102"] {
        cluster.annotate(1, "public-ip-overwrite", Some(ip));
        cluster.wait_annotation(1, "public-ip", ip);
        cluster.wait_shows(2, "bridge fdb show dev flannel.1", &format!("dst {ip} "));
        subnet_env::eventually_pings(&pods[1], host);
        subnet_env::eventually_pings(&pods[0], cluster.host(2));
    }
    let other = other_ipv6(&ipv6);
    cluster.annotate(1, "public-ipv6-overwrite", Some(other));
    cluster.wait_annotation(1, "public-ipv6", other);
    cluster.wait_shows(
        2,
        "bridge fdb show dev flannel-v6.1",
        &format!("dst {other} "),
    );
    subnet_env::eventually_pings(&pods[1], host);
    // what is no address is ignored and named
    cluster.annotate(1, "public-ip-overwrite", Some("nat.example.com"));
    cluster.wait_annotation(1, "public-ip", "172.31.0.1");
    cluster.annotate(1, "public-ip-overwrite", None);
    cluster.annotate(1, "public-ipv6-overwrite", None);
    cluster.wait_annotation(1, "public-ipv6", &ipv6);
    cluster.wait_shows(2, "bridge fdb show dev flannel.1", "dst 172.31.0.1 ");
    cluster.wait_shows(
        2,
        "bridge fdb show dev flannel-v6.1",
        &format!("dst {ipv6} "),
    );
    subnet_env::eventually_pings(&pods[1], host);
    assert_eq!(device(), local, "the device stays");
    daemons[0].wait_ready();
    let log = daemons.remove(0).stop();
    assert!(
        log.contains("host1") && log.contains("public-ip-overwrite is \"nat.example.com\""),
        "{log}"
    );
}

/// The address that an administrator gives the node replaces the one of the default route: the
/// device and the peers follow.
#[scenario(unless = without_kubernetes)]
fn node_public_ip_is_followed() {
    let cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    host.sh(
        "ip addr add 172.31.0.101/24 dev eth0 && ip addr add 172.31.0.102/24 dev eth0 \
         && ip addr add fd31::65/64 dev eth0 nodad",
    );
    // before the start
    cluster.annotate(1, "node-public-ip", Some("172.31.0.101"));
    let mut daemons = cluster.start_all();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    let ipv6 = cluster.annotation(1, "public-ipv6");
    let reached_by = |ip: &str| {
        cluster.wait_annotation(1, "public-ip", ip);
        cluster.wait_shows(1, "ip -d link show flannel.1", &format!("local {ip} "));
        cluster.wait_shows(2, "bridge fdb show dev flannel.1", &format!("dst {ip} "));
        subnet_env::eventually_pings(&pods[1], host);
        subnet_env::eventually_pings(&pods[0], cluster.host(2));
    };
    reached_by("172.31.0.101");
    cluster.annotate(1, "node-public-ip", Some("172.31.0.102"));
    reached_by("172.31.0.102");
    let other = other_ipv6(&ipv6);
    cluster.annotate(1, "node-public-ipv6", Some(other));
    cluster.wait_annotation(1, "public-ipv6", other);
    cluster.wait_shows(
        2,
        "bridge fdb show dev flannel-v6.1",
        &format!("dst {other} "),
    );
    subnet_env::eventually_pings(&pods[1], host);
    // an address that the host does not have, until it has it
    cluster.annotate(1, "node-public-ip", Some("172.31.0.103"));
    eventually("the log names the address", TIMEOUT, || {
        daemons[0].output().contains("172.31.0.103").then_some(())
    });
    assert_eq!(cluster.annotation(1, "public-ip"), "172.31.0.102");
    host.sh("ip addr add 172.31.0.103/24 dev eth0");
    reached_by("172.31.0.103");
    cluster.annotate(1, "node-public-ip", None);
    cluster.annotate(1, "node-public-ipv6", None);
    reached_by("172.31.0.1");
    cluster.wait_annotation(1, "public-ipv6", &ipv6);
    assert_eq!(
        subnet_env::value(host, "FLANNEL_SUBNET").as_deref(),
        Some("10.244.1.1/24")
    );
    daemons[0].wait_ready();
}

#[scenario(unless = without_kubernetes)]
fn removed_annotations_and_condition_return() {
    let cluster = Cluster::new(2, V4);
    let mut daemons = cluster.start_all();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    cluster.wait_condition(1);
    let published = cluster.annotations(1);
    for name in published.keys() {
        cluster.annotate(1, name, None);
    }
    eventually("the annotations are back", TIMEOUT, || {
        (cluster.annotations(1) == published).then_some(())
    });
    cluster.annotate(1, "backend-data", Some("null"));
    cluster.annotate(1, "public-ip", Some("192.0.2.1"));
    eventually("the annotations are as before", TIMEOUT, || {
        (cluster.annotations(1) == published).then_some(())
    });
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    cluster
        .server
        .remove_condition("host1", "NetworkUnavailable");
    cluster.wait_condition(1);
    let flipped = json!({"type": "NetworkUnavailable", "status": "True", "reason": "Test"});
    cluster.server.set_condition("host1", &flipped);
    cluster.wait_condition(1);
    // a cloud's route controller is left alone
    let others = json!({"type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated"});
    cluster.server.set_condition("host1", &others);
    cluster.annotate(1, "public-ip", None);
    cluster.wait_annotation(1, "public-ip", "172.31.0.1");
    assert_eq!(
        cluster.condition(1).expect("a condition")["reason"],
        "RouteCreated"
    );
    // nothing is withdrawn at the end
    let log = daemons.remove(0).stop();
    assert_eq!(cluster.annotations(1), published);
    assert_eq!(
        cluster.condition(1).expect("a condition")["status"],
        "False"
    );
    let written_again = log.matches("another party changed or removed").count();
    assert_eq!(written_again, 1, "{log}");
}

/// A party that always undoes what flanneld writes neither floods the API server nor the log.
#[scenario(unless = without_kubernetes)]
fn dispute_over_an_annotation_is_slow() {
    let cluster = Cluster::new(1, V4);
    let daemons = cluster.start_all();
    cluster.wait_condition(1);
    cluster.proxy.take_requests();
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(8) {
        if cluster.annotation(1, "public-ip") == "172.31.0.1" {
            cluster.annotate(1, "public-ip", Some("192.0.2.1"));
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    let patches = cluster.proxy.requests();
    let patches = patches.iter().filter(|request| request.is_patch()).count();
    assert!((2..=5).contains(&patches), "{patches} patches");
    let log = daemons.into_iter().next().expect("one").stop();
    assert_eq!(log.matches("another party").count(), 1, "{log}");
}

/// The data path stays while the node's object is gone; with another podCIDR the lease follows.
#[scenario(unless = without_kubernetes)]
fn deleted_node_returns_with_another_pod_cidr() {
    let cluster = Cluster::new(2, V4);
    let mut daemons = cluster.start_all();
    cluster.wait_condition(1);
    let host = cluster.host(1);
    let mac = cluster.annotation(1, "backend-data");
    let state = || host.sh("ip route; bridge fdb show dev flannel.1; cat /run/flannel/subnet.env");
    cluster.wait_shows(1, "bridge fdb show dev flannel.1", "172.31.0.2");
    let before = state();
    cluster.server.delete_node("host1");
    daemons[0].wait_status(&["node host1, which was deleted", "10.244.1.0/24"]);
    assert_eq!(state(), before);
    cluster.create_node(1, 9);
    cluster.wait_shows(1, "cat /run/flannel/subnet.env", "10.244.9.1/24");
    cluster.wait_shows(2, "ip route", "10.244.9.0/24");
    cluster.wait_condition(1);
    assert_eq!(cluster.annotation(1, "backend-data"), mac);
    daemons[0].wait_ready();
    let status = daemons[0].status();
    assert!(!status.contains("waiting"), "{status}");
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], cluster.host(2));
    subnet_env::eventually_pings(&pods[1], host);
    let log = daemons.remove(0).stop();
    assert!(
        log.contains("from 10.244.1.0/24 to 10.244.9.0/24: restart the pods"),
        "{log}"
    );
}

/// The MAC comes back from the annotation when the host lost its device and its files.
#[scenario(unless = without_kubernetes)]
fn mac_survives_a_reboot_with_any_prefix() {
    for prefix in ["flannel.alpha.coreos.com", "example.com/pool"] {
        let cluster = Cluster::new(1, DUAL);
        let argument = format!("-kube-annotation-prefix={prefix}");
        let variables = [("NODE_NAME", "host1")];
        let arguments = [argument.as_str(), "-state-file=/run/state.json"];
        let mut flanneld = cluster.start_with(1, &arguments, &variables);
        flanneld.wait_ready();
        let macs = || {
            let links = cluster.host(1).sh("ip -j link show type vxlan");
            let links: Value = serde_json::from_str(&links).expect("JSON");
            let links = links.as_array().expect("an array").iter();
            let macs = links.map(|link| (link["ifname"].to_string(), link["address"].to_string()));
            macs.collect::<Vec<_>>()
        };
        let before = macs();
        assert_eq!(before.len(), 2);
        flanneld.stop();
        cluster.host(1).sh(
            "ip link del flannel.1; ip link del flannel-v6.1; rm -r /run/state.json /run/flannel",
        );
        let mut flanneld = cluster.start_with(1, &arguments, &variables);
        flanneld.wait_ready();
        assert_eq!(macs(), before, "{prefix}");
        drop(flanneld);
    }
}

/// podCIDRs that cannot be used are named and waited for.
#[scenario(unless = without_kubernetes)]
fn unusable_pod_cidrs_are_waited_for() {
    for (pod_cidrs, texts) in [
        (
            &["10.245.1.0/24"][..],
            &[
                r#"subnet "10.244.0.0/16" specified in the flannel net config doesn't contain "10.245.1.0/24" PodCIDR of the "host1" node"#,
            ][..],
        ),
        (
            &["fd00:10:244:1::/64"],
            &[
                "podCIDRs of node host1",
                "no IPv4 subnet",
                "fd00:10:244:1::/64",
            ],
        ),
        (
            &["10.244.2.0/24"],
            &[
                "podCIDR of node host1 of its own",
                "10.244.2.0/24",
                "172.31.0.2",
            ],
        ),
    ] {
        let cluster = Cluster::without_nodes(2, V4);
        cluster.create_node(2, 2);
        let mut other = cluster.start(2);
        other.wait_ready();
        let node = tests::kubernetes::Node::of_host(1).pod_cidrs(pod_cidrs);
        cluster.server.create_node(&node);
        let mut flanneld = cluster.start(1);
        flanneld.wait_status(&[" 503 "]);
        flanneld.wait_status(texts);
        assert_eq!(cluster.annotations(1).len(), 0);
        // the node that had the subnet first keeps it, after a restart, too
        other.stop();
        let mut other = cluster.start(2);
        other.wait_ready();
        cluster.server.delete_node("host1");
        cluster.create_node(1, 1);
        flanneld.wait_ready();
        let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
        subnet_env::eventually_pings(&pods[0], cluster.host(2));
        drop((flanneld, other));
    }
}

/// A changed network configuration is reported and changes nothing; a broken one, too.
#[scenario(unless = without_kubernetes)]
fn changed_network_configuration_is_reported() {
    let cluster = Cluster::new(1, V4);
    let mut flanneld = cluster.start(1);
    flanneld.wait_ready();
    let before = cluster
        .host(1)
        .sh("cat /run/flannel/subnet.env; ip -d link show flannel.1");
    let write = |text: &str| cluster.host(1).write("/run/net-conf.json", text);
    write(&V4.replace("10.244.0.0/16", "10.0.0.0/8"));
    flanneld.wait_status(&[" 200 ", "restart of flanneld", "/run/net-conf.json"]);
    write("{\"Network\":");
    flanneld.wait_status(&[" 200 ", "/run/net-conf.json changed and is broken"]);
    write(V4);
    eventually("nothing is reported", TIMEOUT, || {
        (!flanneld.status().contains("net-conf")).then_some(())
    });
    let after = cluster
        .host(1)
        .sh("cat /run/flannel/subnet.env; ip -d link show flannel.1");
    assert_eq!(after, before);
}

/// The condition is retried until the API server takes it, and the network does not wait for it.
#[scenario(unless = without_kubernetes)]
fn condition_is_retried() {
    let cluster = Cluster::new(1, V4);
    cluster.proxy.inject_times(
        3,
        |request| request.is_patch() && request.body.contains("FlannelIsUp"),
        Fault::internal_error(),
    );
    let mut flanneld = cluster.start(1);
    flanneld.wait_status(&[" 200 ", "NetworkUnavailable=False of node host1", "500"]);
    cluster.wait_condition(1);
    eventually("nothing is waited for", TIMEOUT, || {
        (!flanneld.status().contains("waiting")).then_some(())
    });
    let cluster = Cluster::new(1, V4);
    let mut flanneld = cluster.start_with(
        1,
        &["-set-node-network-unavailable=false"],
        &[("NODE_NAME", "host1")],
    );
    flanneld.wait_ready();
    assert_eq!(cluster.condition(1), None);
}

/// A node object that never had an annotation is no obstacle.
#[scenario(unless = without_kubernetes)]
fn node_without_annotations_gets_them() {
    let cluster = Cluster::without_nodes(1, V4);
    let node = tests::kubernetes::Node::of_host(1).pod_cidrs(&["10.244.1.0/24"]);
    cluster.server.create_node(&node.without_annotations());
    cluster.start(1).wait_ready();
    assert_eq!(cluster.annotation(1, "kube-subnet-manager"), "true");
    let patch = json!({"metadata": {"annotations": null}});
    let path = "/api/v1/nodes/host1";
    let client = cluster.server.client();
    client.ok("PATCH", path, Some(Patch::Merge), Some(&patch));
    cluster.start(1).wait_ready();
    assert_eq!(cluster.annotation(1, "kube-subnet-manager"), "true");
}

/// The node's address changes while the API server is out of reach: the data path follows at once,
/// the annotation when it can.
#[scenario(unless = without_kubernetes)]
fn address_that_changes_during_an_outage_is_published_after_it() {
    let cluster = Cluster::new(2, V4);
    let mut daemons = cluster.start_all();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    cluster.proxy.refuse();
    cluster.proxy.drop_connections();
    cluster.host(1).sh(
        "ip addr del 172.31.0.1/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 \
         && ip route add default via 172.31.0.254",
    );
    let device = "ip -d link show flannel.1";
    cluster.wait_shows(1, device, "local 172.31.0.77 ");
    daemons[0].wait_status(&[" 200 ", "annotations", "refused"]);
    cluster.proxy.accept();
    cluster.wait_annotation(1, "public-ip", "172.31.0.77");
    cluster.wait_shows(2, "bridge fdb show dev flannel.1", "dst 172.31.0.77 ");
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    eventually("nothing is waited for", TIMEOUT, || {
        (!daemons[0].status().contains("waiting")).then_some(())
    });
}

/// A node that was rebooted meanwhile has the leases that the API server told last.
#[scenario(unless = without_kubernetes)]
fn rebooted_node_reaches_its_peers_while_the_api_server_is_away() {
    let cluster = Cluster::new(2, V4);
    let mut daemons = cluster.start_all();
    // its own lease is apart
    kept(cluster.host(2), 1);
    cluster.proxy.refuse();
    cluster.proxy.drop_connections();
    daemons.remove(1).stop();
    reboot(cluster.host(2));
    let mut again = cluster.start(2);
    again.wait_ready();
    again.wait_status(&[" 200 ", "the leases are old"]);
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    cluster.proxy.accept();
    eventually("nothing is waited for", 2 * TIMEOUT, || {
        let status = again.status();
        (status.contains(" 200 ") && !status.contains("waiting")).then_some(())
    });
    subnet_env::ping(&pods[1], cluster.host(1));
}

/// Another node that claims this node's podCIDR takes nothing from it.
#[scenario(unless = without_kubernetes)]
fn second_node_with_our_pod_cidr_changes_nothing() {
    let cluster = Cluster::new(2, V4);
    let mut daemons = cluster.start_all();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    cluster.wait_condition(1);
    let state = || {
        [1, 2].map(|number| {
            cluster
                .host(number)
                .sh("ip route; bridge fdb show dev flannel.1; cat /run/flannel/subnet.env")
        })
    };
    let before = state();
    let intruder = tests::kubernetes::Node::new("intruder")
        .pod_cidrs(&["10.244.1.0/24"])
        .vxlan_peer("172.31.0.66", "02:00:00:00:00:66");
    cluster.server.create_node(&intruder);
    eventually("both name the node", TIMEOUT, || {
        let mut logs = daemons.iter().map(|daemon| daemon.output());
        logs.all(|log| log.contains("intruder") || log.contains("172.31.0.66"))
            .then_some(())
    });
    assert_eq!(state(), before);
    subnet_env::ping(&pods[1], cluster.host(1));
    daemons.remove(0).stop();
    let mut again = cluster.start(1);
    again.wait_ready();
    assert_eq!(state(), before);
    subnet_env::ping(&pods[1], cluster.host(1));
}

/// Whatever answers in the API server's place, the annotations are written in the end.
#[scenario(unless = without_kubernetes)]
fn annotations_are_retried() {
    let cluster = Cluster::new(1, V4);
    let mut daemons = cluster.start_all();
    cluster.wait_condition(1);
    let faults = [
        Fault::too_many_requests(1),
        Fault::internal_error(),
        Fault::forbidden("nodes \"host1\" is forbidden"),
        Fault::html(502),
        Fault::html(200),
        Fault::Drop,
        Fault::CutAfter(100),
        Fault::Stall,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let ip = format!("192.0.2.{number}");
        cluster
            .proxy
            .inject_times(1, |request| request.is_patch(), fault);
        cluster.annotate(1, "public-ip-overwrite", Some(&ip));
        cluster.wait_annotation(1, "public-ip", &ip);
    }
    daemons[0].wait_ready();
    eventually("nothing is waited for", TIMEOUT, || {
        (!daemons[0].status().contains("waiting")).then_some(())
    });
}
