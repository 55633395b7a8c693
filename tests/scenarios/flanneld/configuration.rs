//! The network configuration: what is refused, and what remains of an earlier one.

use super::cluster::{Cluster, V4, eventually_shows, get};
use nix::sys::signal::Signal;
use std::{process::Command, time::Duration};
use tests::{Host, binaries::program, process::eventually, scenario};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Restarts every daemon under this configuration.
fn restart_under(cluster: &mut Cluster, nodes: usize, net_conf: &str) {
    for node in 1..=nodes {
        cluster.stop(node);
    }
    write(cluster, net_conf);
    for node in 1..=nodes {
        cluster.start(node, &[]);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
    }
}

fn write(cluster: &Cluster, net_conf: &str) {
    cluster
        .host(1)
        .sh(&format!("echo '{net_conf}' > /run/net-conf.json"));
}

fn with_backend(backend: &str) -> String {
    V4.replace(r#"{"Type":"vxlan"}"#, backend)
}

/// Runs flanneld until it ends by itself; its exit code and what it says.
fn refused(host: &Host, net_conf: &str) -> (Option<i32>, String) {
    host.sh(&format!("echo '{net_conf}' > /run/refused.json"));
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-listen=127.0.0.1:8888",
        "-net-config-path=/run/refused.json",
    ]);
    let output = host.run(|| command.output().expect("flanneld"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

/// Nothing is made before the refusal.
#[scenario]
fn bad_configuration_is_refused_by_the_name_of_its_key() {
    let cluster = Cluster::idle(1, V4);
    let host = cluster.host(1);
    for (net_conf, text) in [
        (
            with_backend(r#"{"Type":"vxlan","VNI":16777215}"#),
            "Backend.VNI 16777215 is too large: the device\'s name flannel.16777215",
        ),
        (
            r#"{"Network":"10.244.0.0/16","SubnetMin":"10.244.9.0","SubnetMax":"10.244.5.0","Backend":{"Type":"vxlan"}}"#.to_owned(),
            "SubnetMin 10.244.9.0 is above SubnetMax 10.244.5.0",
        ),
        (
            V4.replace("10.244.0.0/16", "172.31.0.0/16"),
            "Network 172.31.0.0/16 contains 172.31.0.1",
        ),
        (
            V4.replace("10.244.0.0/16", "127.0.0.0/8"),
            "Network 127.0.0.0/8 has loopback addresses",
        ),
        (
            V4.replace("10.244.0.0/16", "224.0.0.0/8"),
            "Network 224.0.0.0/8 has multicast addresses",
        ),
        (
            V4.replace("10.244.0.0/16", "169.254.0.0/16"),
            "Network 169.254.0.0/16 has link-local addresses",
        ),
        (
            V4.replace(r#""10.244.0.0/16""#, "7"),
            "into field Network",
        ),
        (
            with_backend(r#"{"Type":"vxlan","Port":70000}"#),
            "into field Port",
        ),
    ] {
        let (code, log) = refused(host, &net_conf);
        assert_eq!(code, Some(1), "{net_conf}: {log}");
        assert!(log.contains(text), "{net_conf}: expected {text}:\n{log}");
    }
    let links = host.sh("ip -o link");
    assert!(!links.contains("flannel"), "{links}");
}

/// Packets from the host to a remote pod have the address of the present network.
#[scenario]
fn network_that_changes_and_returns_leaves_no_address() {
    let mut cluster = Cluster::new(2, V4);
    let other = V4.replace("10.244.0.0/16", "10.245.0.0/16");
    for (net_conf, network) in [(other.as_str(), "10.245."), (V4, "10.244.")] {
        restart_under(&mut cluster, 2, net_conf);
        for node in [1, 2] {
            let addresses = cluster.host(node).sh("ip -o -4 addr show flannel.1");
            let expected = cluster.subnet(node).replace("/24", "/32");
            assert!(
                expected.starts_with(network) && addresses.contains(&expected),
                "{addresses}"
            );
            assert_eq!(addresses.lines().count(), 1, "node {node}: {addresses}");
            let routes = cluster.host(node).sh("ip route");
            let left = if network == "10.244." {
                "10.245."
            } else {
                "10.244."
            };
            assert!(!routes.contains(left), "node {node}: {routes}");
            let rules = cluster.host(node).sh("nft list ruleset");
            assert!(!rules.contains(left), "node {node}: {rules}");
        }
        let pod = cluster.pod(2);
        let ip = cluster.pod_ips(2).remove(0);
        cluster.host(1).sh(&format!("ping -n -c1 -W5 {ip}"));
        drop(pod);
        for node in [1, 2] {
            cluster
                .host(node)
                .try_sh("ip netns del pod; ip link del cni0");
        }
    }
}

/// Also that of Go flannel or of a version that kept no record, by the address of subnet.env.
#[scenario]
fn changed_vni_leaves_no_device() {
    let mut cluster = Cluster::new(2, V4);
    restart_under(
        &mut cluster,
        2,
        &with_backend(r#"{"Type":"vxlan","VNI":7}"#),
    );
    for node in [1, 2] {
        wait_for_devices(cluster.host(node), &["flannel.7"]);
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    drop(pods);
    for node in [1, 2] {
        cluster.stop(node);
        cluster.host(node).sh("rm /var/lib/flannel/node.json");
        cluster.host(node).sh(
            "ip link add flannel.9 type vxlan id 9 local 172.31.0.99 dev eth0 dstport 8472 nolearning",
        );
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    restart_under(&mut cluster, 2, V4);
    for node in [1, 2] {
        // that of another daemon stays
        wait_for_devices(cluster.host(node), &["flannel.1", "flannel.9"]);
    }
}

/// Waits until the host has these vxlan devices only: those of an earlier configuration go a few
/// seconds after the last node that uses them.
#[track_caller]
fn wait_for_devices(host: &Host, names: &[&str]) {
    eventually(&format!("the devices are {names:?}"), TIMEOUT, || {
        (vxlan_devices(host) == names).then_some(())
    });
}

fn vxlan_devices(host: &Host) -> Vec<String> {
    let links = host.sh("ip -o link show type vxlan");
    let name = |line: &str| line.split(": ").nth(1).map(str::to_owned);
    let mut names: Vec<_> = links.lines().filter_map(name).collect();
    names.sort();
    names
}

/// Nodes that ran with the key and nodes that are new have the same port.
#[scenario]
fn removed_port_is_the_usual_one_again() {
    let mut cluster = Cluster::new(2, &with_backend(r#"{"Type":"vxlan","Port":4789}"#));
    for node in [1, 2] {
        assert!(device(&cluster, node).contains("dstport 4789"));
    }
    restart_under(&mut cluster, 2, V4);
    for node in [1, 2] {
        let device = device(&cluster, node);
        assert!(device.contains("dstport 8472"), "node {node}: {device}");
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

fn device(cluster: &Cluster, node: usize) -> String {
    cluster.host(node).sh("ip -d link show flannel.1")
}

/// Waits until every node's device has this port.
fn wait_for_port(cluster: &Cluster, nodes: usize, port: &str) {
    for node in 1..=nodes {
        let text = format!("dstport {port}");
        eventually_shows(cluster, node, "ip -d link show type vxlan", &text);
    }
}

/// The file alone is enough, and so is SIGHUP. Daemons and pods run on.
#[scenario]
fn changed_configuration_reaches_running_nodes() {
    let mut cluster = Cluster::new(2, V4);
    let subnets = [cluster.subnet(1), cluster.subnet(2)];
    let macs = [cluster.mac(1, "flannel.1"), cluster.mac(2, "flannel.1")];
    cluster.pod(1);
    cluster.pod(2);
    let ping = format!(
        "ip netns exec pod ping -n -c1 -W1 {}",
        cluster.pod_ips(2).remove(0)
    );
    for (net_conf, port, hangup) in [
        (
            with_backend(r#"{"Type":"vxlan","Port":4789}"#),
            "4789",
            false,
        ),
        (V4.to_owned(), "8472", true),
    ] {
        write(&cluster, &net_conf);
        if hangup {
            cluster.daemon(1).signal(Signal::SIGHUP);
        }
        wait_for_port(&cluster, 2, port);
        for node in [1, 2] {
            cluster.wait_ready(node);
        }
        eventually("the pods reach each other", TIMEOUT, || {
            cluster.host(1).try_sh(&ping).status.success().then_some(())
        });
    }
    assert_eq!([cluster.subnet(1), cluster.subnet(2)], subnets);
    assert_eq!(
        [cluster.mac(1, "flannel.1"), cluster.mac(2, "flannel.1")],
        macs
    );
    for node in [1, 2] {
        let log = cluster.daemon(node).output();
        assert!(
            log.contains("the network configuration changed: Backend.Port from not set to 4789"),
            "{log}"
        );
    }
}

/// SIGHUP ends no daemon, and a broken file no network. A good one after it is used.
#[scenario]
fn configuration_that_cannot_be_used_changes_nothing() {
    let mut cluster = Cluster::new(2, V4);
    for (net_conf, reason) in [
        ("{".to_owned(), "/run/net-conf.json: "),
        (
            with_backend(r#"{"Type":"vxlan","VNI":16777215}"#),
            "Backend.VNI 16777215 is too large",
        ),
        (
            V4.replace("10.244.0.0", "127.0.0.0"),
            "Network 127.0.0.0/16 has loopback addresses",
        ),
    ] {
        write(&cluster, &net_conf);
        for node in [1, 2] {
            cluster.daemon(node).signal(Signal::SIGHUP);
        }
        eventually("the file is refused", TIMEOUT, || {
            let log = cluster.daemon(1).output();
            (log.contains(reason) && log.contains("the nodes keep what they have")).then_some(())
        });
    }
    // to open a FIFO is to wait
    cluster
        .host(1)
        .sh("rm /run/net-conf.json && mkfifo /run/net-conf.json");
    cluster.daemon(1).signal(Signal::SIGHUP);
    eventually("the FIFO is refused", TIMEOUT, || {
        let log = cluster.daemon(1).output();
        log.contains("it is not a regular file").then_some(())
    });
    assert!(cluster.is_ready(1) && cluster.is_ready(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    cluster.host(1).sh("rm /run/net-conf.json");
    write(&cluster, &with_backend(r#"{"Type":"vxlan","Port":4789}"#));
    cluster.daemon(1).signal(Signal::SIGHUP);
    wait_for_port(&cluster, 2, "4789");
}

/// They say so, and go on as they are.
#[scenario]
fn nodes_keep_what_cannot_change_under_pods() {
    let mut cluster = Cluster::new(2, V4);
    let subnets = [cluster.subnet(1), cluster.subnet(2)];
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let other = V4.replace("10.244.0.0/16", "10.245.0.0/16");
    write(&cluster, &other);
    for node in [1, 2] {
        eventually("the status names the key", TIMEOUT, || {
            let status = get(cluster.host(node), "/readyz?verbose");
            (status.contains("Network from 10.244.0.0/16 to 10.245.0.0/16")
                && status.contains("flanneld is ready"))
            .then_some(())
        });
    }
    cluster.ping_all(&pods);
    assert_eq!([cluster.subnet(1), cluster.subnet(2)], subnets);
    // taken back
    write(&cluster, V4);
    for node in [1, 2] {
        eventually("nothing waits any longer", TIMEOUT, || {
            let status = get(cluster.host(node), "/readyz?verbose");
            (!status.contains("restart")).then_some(())
        });
    }
    cluster.ping_all(&pods);
    drop(pods);
    restart_under(&mut cluster, 2, &other);
    assert!(cluster.subnet(2).starts_with("10.245."));
}

/// Several keys at once: running nodes keep all of it if one of the keys cannot change under pods,
/// and a restart leaves nothing of what was.
#[scenario]
fn keys_that_change_together_leave_nothing_of_what_was() {
    let other = V4.replace("10.244.0.0/16", "10.245.0.0/16").replace(
        r#"{"Type":"vxlan"}"#,
        r#"{"Type":"vxlan","VNI":7,"Port":4789,"DirectRouting":true}"#,
    );
    let mut cluster = Cluster::new(2, V4);
    let before = [1, 2].map(|node| shown(cluster.host(node)));
    write(&cluster, &other);
    for node in [1, 2] {
        eventually("the status names the key", TIMEOUT, || {
            let status = get(cluster.host(node), "/readyz?verbose");
            let kept = status.contains("Network from 10.244.0.0/16 to 10.245.0.0/16");
            (kept && status.contains("flanneld is ready")).then_some(())
        });
        assert_eq!(shown(cluster.host(node)), before[node - 1]);
    }
    for (net_conf, device, port, network, left) in [
        (&*other, "flannel.7", "dstport 4789", "10.245.", "10.244."),
        (V4, "flannel.1", "dstport 8472", "10.244.", "10.245."),
    ] {
        restart_under(&mut cluster, 2, net_conf);
        cluster.wait_for_peers();
        for node in [1, 2] {
            let host = cluster.host(node);
            wait_for_devices(host, &[device]);
            let link = host.sh(&format!("ip -d link show {device}"));
            assert!(link.contains(port), "{link}");
            let all =
                host.sh("ip -4 addr; ip route; nft list ruleset; cat /run/flannel/subnet.env");
            assert!(all.contains(network) && !all.contains(left), "{all}");
            let peer = cluster.subnet(3 - node);
            let route = host.sh(&format!("ip route show {peer}"));
            let way = if net_conf == V4 { device } else { "eth0" };
            assert!(route.contains(&format!("dev {way} ")), "{route}");
        }
        let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
        cluster.ping_all(&pods);
        drop(pods);
        for node in [1, 2] {
            let host = cluster.host(node);
            host.try_sh("ip netns del pod; ip link del cni0");
        }
    }
    // those that can change under pods, together
    let live = with_backend(r#"{"Type":"vxlan","Port":4789,"DirectRouting":true}"#);
    for node in [1, 2] {
        cluster.pod(node);
    }
    let ping = format!(
        "ip netns exec pod ping -n -c1 -W1 {}",
        cluster.pod_ips(2).remove(0)
    );
    for (net_conf, port, way) in [(&*live, "4789", "eth0"), (V4, "8472", "flannel.1")] {
        write(&cluster, net_conf);
        wait_for_port(&cluster, 2, port);
        for node in [1, 2] {
            let peer = cluster.subnet(3 - node);
            let way = format!("dev {way} ");
            eventually_shows(&cluster, node, &format!("ip route show {peer}"), &way);
            cluster.wait_ready(node);
        }
        eventually("the pods reach each other", TIMEOUT, || {
            let reached = cluster.host(1).try_sh(&ping).status.success();
            reached.then_some(())
        });
    }
}

/// What flanneld makes on a host.
fn shown(host: &Host) -> String {
    host.sh("ip -d link show type vxlan; ip -4 addr show flannel.1; ip route; cat /run/flannel/subnet.env")
}

#[scenario]
fn check_config_says_what_a_file_means() {
    let cluster = Cluster::idle(1, V4);
    let host = cluster.host(1);
    let check = |net_conf: &str| {
        host.sh(&format!("echo '{net_conf}' > /run/checked.json"));
        let mut command = Command::new(program("flanneld"));
        command.args(["check-config", "/run/checked.json"]);
        let output = host.run(|| command.output().expect("flanneld"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, stdout, stderr) = check(V4);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(
        stdout,
        "/run/checked.json: can be used\n\
         Network: 10.244.0.0/16, a /24 for each node from 10.244.1.0 to 10.244.255.0\n\
         Backend: vxlan, VNI 1, UDP port 8472, device flannel.1\n"
    );
    for (backend, about) in [
        ("vxlan", "vxlan, VNI 1, UDP port 8472, device flannel.1"),
        ("ipip", "ipip, device flannel.ipip"),
    ] {
        let backend = format!(r#"{{"Type":"{backend}","DirectRouting":true}}"#);
        let (_, stdout, _) = check(&with_backend(&backend));
        let line = format!("Backend: {about}, routes without it to nodes on the link\n");
        assert!(stdout.contains(&line), "{stdout}");
    }
    let (code, _, stderr) = check(&with_backend(r#"{"Type":"vxlan","Prot":4789}"#));
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("Backend.Prot has no effect: no such key"),
        "{stderr}"
    );
    for (net_conf, text) in [
        ("{", "/run/checked.json: "),
        (r#"{"Network":"10.244.0.0"}"#, "Network: invalid CIDR"),
        (r#"{"EnableIPv4":false}"#, "set EnableIPv4, EnableIPv6"),
        (
            r#"{"Network":"10.244.0.0/16","SubnetLen":17}"#,
            "SubnetLen: network must",
        ),
        (
            r#"{"Network":"10.244.0.0/16","Backend":{"Type":"carrier-pigeon"}}"#,
            "unknown backend type: carrier-pigeon",
        ),
    ] {
        let (code, stdout, stderr) = check(net_conf);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{net_conf}");
        assert!(stderr.contains(text), "{net_conf}: {stderr}");
    }
}
