//! Routes of other programs where flanneld's belong: they are reported and left. Routes of Go
//! flannel are taken over.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows, get, post};
use std::{fs, process::Command, time::Duration};
use tests::{binaries::program, process::eventually, scenario, underlay, usage};

const DIRECT: &str = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","DirectRouting":true}}"#;

/// The node says that it is not ready, and shows the route.
#[track_caller]
fn is_reported(cluster: &mut Cluster, node: usize, route: &str) {
    eventually(&format!("{route} is reported"), TIMEOUT, || {
        let answer = get(cluster.host(node), "/readyz?verbose");
        (answer.contains("503 Service Unavailable") && answer.contains(route)).then_some(())
    });
    let log = cluster.daemon(node).output();
    let lines = log.lines().filter(|line| line.contains(route)).count();
    assert!(lines >= 1, "{route} in\n{log}");
}

#[scenario]
fn foreign_route_to_a_peers_subnet_is_a_conflict_and_stays() {
    let mut cluster = Cluster::new(2, DUAL);
    let (peer, peer6) = (cluster.subnet(2), cluster.subnet6(2));
    let gw = peer.replace("/24", "");
    let other = underlay::ip(9);
    for (command, shown, undo) in [
        (
            format!("ip route replace blackhole {peer} proto static"),
            format!("blackhole {peer} proto static"),
            format!("ip route del blackhole {peer}"),
        ),
        (
            format!("ip route replace {peer} via {other} dev eth0"),
            format!("{peer} via {other} dev eth0 proto boot"),
            format!("ip route del {peer} via {other}"),
        ),
        (
            format!("ip route replace {peer} via {gw} dev flannel.1 onlink proto bird"),
            format!("{peer} via {gw} dev flannel.1 proto bird"),
            format!("ip route del {peer} proto bird"),
        ),
        (
            format!("ip -6 route add unreachable {peer6} metric 9 proto static"),
            format!("unreachable {peer6} dev lo proto static"),
            format!("ip -6 route del unreachable {peer6} metric 9"),
        ),
    ] {
        cluster.host(1).sh(&command);
        is_reported(&mut cluster, 1, &shown);
        // a pass for another reason leaves it too
        cluster.host(1).sh("ip link set flannel.1 mtu 1300");
        eventually_shows(&cluster, 1, "ip link show flannel.1", "mtu 1450");
        let look = format!("ip route show {peer}; ip -6 route show {peer6}");
        let routes = cluster.host(1).sh(&look);
        let kept = shown.split(" dev ").next().unwrap_or(&shown);
        let kept = kept.split(" proto ").next().unwrap_or(kept);
        assert!(routes.contains(kept), "{kept} in\n{routes}");
        let log = cluster.daemon(1).output();
        let warnings = log.lines().filter(|line| {
            line.contains("a route of another program leads") && line.contains(kept)
        });
        assert_eq!(warnings.count(), 1, "logged once:\n{log}");
        cluster.host(1).sh(&undo);
        cluster.wait_ready(1);
        eventually_shows(
            &cluster,
            1,
            &look,
            &format!("{peer} via {gw} dev flannel.1 proto 70 onlink"),
        );
    }
}

/// Boot routes of DirectRouting's shape over the underlay, and Go's over the vxlan device.
#[scenario]
fn routes_of_go_flannel_are_taken_over() {
    let mut cluster = Cluster::new(2, V4);
    let peer = cluster.subnet(2);
    let gw = peer.replace("/24", "");
    let ours = format!("{peer} via {gw} dev flannel.1 proto 70 onlink");
    for route in [
        format!("{peer} via {gw} dev flannel.1 onlink"),
        // of its host-gw backend
        format!("{peer} via {} dev eth0", underlay::ip(2)),
    ] {
        cluster.stop(1);
        cluster.host(1).sh(&format!("ip route replace {route}"));
        cluster.start(1, &[]);
        cluster.wait_ready(1);
        let routes = cluster.host(1).sh(&format!("ip route show {peer}"));
        assert_eq!(routes.trim(), ours, "{route}");
    }
}

/// Nor at cleanup.
#[scenario]
fn boot_routes_over_other_links_are_left() {
    let mut cluster = Cluster::new(2, DIRECT);
    let peer = cluster.subnet(2);
    let host = cluster.host(1);
    let direct = format!("{peer} via {} dev eth0 proto 70", underlay::ip(2));
    assert_eq!(
        host.sh(&format!("ip route show {peer}")).trim(),
        direct,
        "the protocol of our own"
    );
    host.sh(
        "ip link add side0 type veth peer name side1 && ip link set side0 up && ip link set side1 up \
         && ip addr add 192.168.9.1/24 dev side0 && ip route add 10.244.222.0/24 via 192.168.9.2 \
         && ip route add 10.244.223.0/24 via 172.31.0.9 proto 77",
    );
    host.sh("ip link set flannel.1 mtu 1300");
    eventually_shows(&cluster, 1, "ip link show flannel.1", "mtu 1450");
    cluster.stop(1);
    let host = cluster.host(1);
    // as a Go flannel leaves it
    host.sh("ip route add 10.244.224.0/24 via 172.31.0.9");
    let report = host.sh(&format!("{} cleanup", program("flanneld").display()));
    let routes = host.sh("ip route");
    for left in ["10.244.222.0/24 via 192.168.9.2", "10.244.223.0/24"] {
        assert!(routes.contains(left), "{left} is gone:\n{routes}\n{report}");
    }
    for gone in [&*peer, "10.244.224.0/24"] {
        assert!(
            !routes.contains(gone),
            "{gone} is left:\n{routes}\n{report}"
        );
    }
    let left = "left route 10.244.222.0/24 via 192.168.9.2: it leads to a part of the pod network";
    assert!(report.contains(left), "{report}");
}

/// A folder that is not empty cannot be replaced: the node says so.
#[scenario]
fn folder_in_place_of_subnet_env_is_reported() {
    let mut cluster = Cluster::new(1, V4);
    cluster.host(1).sh(
        "cd /run/flannel && rm subnet.env && mkdir /run/full && touch /run/full/file && mv /run/full subnet.env",
    );
    eventually("it is not ready", TIMEOUT, || {
        (!cluster.is_ready(1)).then_some(())
    });
    let log = cluster.daemon(1).output();
    assert!(
        log.contains("failed to write /run/flannel/subnet.env"),
        "{log}"
    );
    cluster.host(1).sh("rm -r /run/flannel/subnet.env");
    cluster.wait_ready(1);
}

/// Two nodes, the second of which has 65,000 routes of another program.
fn with_large_foreign_table() -> Cluster {
    let mut cluster = Cluster::idle(2, V4);
    cluster.host(2).sh(
        "for i in $(seq 0 253); do for j in $(seq 0 255); do echo \"route add 100.$i.$j.0/24 via 172.31.0.254 proto bird\"; \
         done; done | ip -batch -",
    );
    for node in [1, 2] {
        cluster.start(node, &[]);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    cluster
}

/// Nor for a change of another program that contradicts what the daemon made, or that this follows
/// from: what it reads of the kernel is counted.
#[scenario]
fn change_costs_nothing_for_a_large_foreign_table() {
    let mut cluster = with_large_foreign_table();
    let peer = cluster.subnet(1);
    let gw = peer.replace("/24", "");
    let ours = format!("{peer} via {gw} dev flannel.1 proto 70 onlink");
    let mac = cluster.mac(1, "flannel.1");
    let pid = cluster.daemon(2).pid();
    let host = cluster.host(2);
    let mut tracer = Command::new("strace");
    let calls = ["-f", "-qq", "-e", "trace=recvfrom,recvmsg,recvmmsg,read"];
    tracer
        .args(calls)
        .args(["-o", "/run/trace", "-p", &pid.to_string()]);
    let _tracer = host.spawn(tracer);
    eventually("it is traced", TIMEOUT, || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    let look = format!("ip route show {peer}; ip neigh show {gw}; bridge fdb show dev flannel.1");
    let whole = || {
        let shown = cluster.host(2).sh(&look);
        (shown.contains(&ours)
            && shown.contains("PERMANENT")
            && shown.contains(&format!("{mac} dst")))
        .then_some(())
    };
    eventually("the first pass is over", TIMEOUT, whole);
    for round in 0..2 {
        for change in [
            format!("ip route del {peer}"),
            format!("ip neigh del {gw} dev flannel.1"),
            format!("bridge fdb del {mac} dev flannel.1"),
            format!("ip route replace {peer} via 10.244.0.99 dev flannel.1 onlink proto 70"),
            "nft flush chain ip flannel-ipv4 postrtg".to_owned(),
        ] {
            cluster.host(2).sh(&change);
            eventually(&format!("{change} is mended, {round}"), TIMEOUT, || {
                let rules = cluster.host(2).sh("nft list table ip flannel-ipv4");
                whole().filter(|()| rules.contains("masquerade"))
            });
        }
    }
    // routes to peers and addresses of the underlay
    let peer_ip = underlay::ip(1);
    for _ in 0..2 {
        let host = cluster.host(2);
        host.sh("ip addr change 172.31.0.2/24 dev eth0 valid_lft 3000 preferred_lft 3000");
        host.sh(&format!(
            "ip route add {peer_ip}/32 via 172.31.0.254 metric 7"
        ));
        host.sh(&format!("ip route del {peer_ip}/32"));
        host.sh(&format!("ip route add blackhole {peer_ip}/32"));
        eventually("the way to node 1 is missed", TIMEOUT, || {
            let answer = get(cluster.host(2), "/readyz?verbose");
            let reason = format!("no route to the peer at {peer_ip}");
            answer.contains(&reason).then_some(())
        });
        cluster
            .host(2)
            .sh(&format!("ip route del blackhole {peer_ip}/32"));
        cluster.wait_ready(2);
    }
    cluster.host(2).sh(
        "ip addr add 172.31.0.222/24 dev eth0 && ip route add default via 172.31.0.254 metric 9",
    );
    // a conflict is found, and the end of it
    cluster
        .host(2)
        .sh(&format!("ip route replace blackhole {peer} proto static"));
    is_reported(&mut cluster, 2, &format!("blackhole {peer} proto static"));
    cluster
        .host(2)
        .sh(&format!("ip route del blackhole {peer}"));
    cluster.wait_ready(2);
    let shown = cluster.host(2).sh(&look);
    assert!(shown.contains(&ours), "{shown}");
    let trace = cluster.host(2).sh("cat /run/trace");
    let read = trace.lines().filter_map(|line| {
        let (_, result) = line.rsplit_once(" = ")?;
        result.split(' ').next()?.parse::<u64>().ok()
    });
    let read: u64 = read.sum();
    // one dump has 4 MiB; the slow timer may fall into this time
    println!("{read} bytes read");
    assert!((1..6 << 20).contains(&read), "{read} bytes read");
}

/// A lease that comes or goes costs what it touches: the main table of another program is not read
/// for it.
#[scenario]
fn lease_costs_nothing_for_a_large_foreign_table() {
    let mut cluster = with_large_foreign_table();
    let post_lease = |cluster: &Cluster, number: u8| {
        let body = format!(
            r#"{{"PublicIP":"172.31.1.{number}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:02:{number:02x}"}}}}"#
        );
        let answer = post(cluster.host(1), "172.31.0.1:8888", "/v1/_/leases", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mac = format!("02:00:00:00:02:{number:02x}");
        eventually_shows(cluster, 2, "bridge fdb show dev flannel.1", &mac);
    };
    // the first one may find the host as it was left at the start
    post_lease(&cluster, 1);
    let pid = cluster.daemon(2).pid();
    let before = usage::processor_time(pid);
    for number in 2..=21 {
        post_lease(&cluster, number);
    }
    let used = usage::processor_time(pid) - before;
    assert!(used < Duration::from_secs(2), "{used:?} for 20 leases");
}
