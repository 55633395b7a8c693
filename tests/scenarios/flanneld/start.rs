//! How the daemon starts or refuses to, what it adopts, and how it ends.

use super::cluster::{Cluster, DUAL, V4, delete, eventually_shows, get};
use std::{
    process::{Command, Output},
    time::Duration,
};
use tests::{Host, Underlay, binaries::program, process::eventually, scenario};

const TIMEOUT: Duration = Duration::from_secs(10);

fn run(host: &Host, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(program("flanneld"));
    command.args(args).envs(env.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = host.run(|| command.output().expect("flanneld"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A host with files of `-net-config-path` in /run.
fn host_with_configurations() -> Underlay {
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    host.sh(&format!(
        "echo '{V4}' > /run/good.json; echo '{{' > /run/broken.json"
    ));
    host.sh(r#"echo '{"Network":"10.244.0.0/16","Backend":{"Type":"carrier-pigeon"}}' > /run/unknown.json"#);
    host.sh(r#"echo '{"EnableIPv4":false}' > /run/none.json"#);
    underlay
}

/// `-listen` on loopback, and more.
fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["-listen=127.0.0.1:8888"];
    all.extend(more);
    all
}

#[track_caller]
fn ends_with(host: &Host, args: &[&str], expected: i32, text: &str) {
    let (code, _, stderr) = run(host, args, &[]);
    assert!(
        code == expected && stderr.contains(text),
        "{args:?}: {code}, expected {expected} and {text}:\n{stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[scenario]
fn command_line_that_cannot_be_used_is_refused_with_code_2() {
    let underlay = host_with_configurations();
    for (args, text) in [
        (
            vec!["-etcd-endpoints="],
            "-etcd-endpoints names no endpoint",
        ),
        (
            vec!["-etcd-endpoints=unix:///run/etcd"],
            "-listen HOST:PORT keeps the leases on this machine",
        ),
        (
            vec!["-listen=127.0.0.1:1", "-remote=127.0.0.1:2"],
            "-listen and -remote are both given",
        ),
        (
            with(&["-net-config-path=/run/good.json", "-iface-regex=("]),
            "-iface-regex=( is not a regular expression: unclosed group",
        ),
        (
            with(&["-net-config-path=/run/good.json", "-public-ip=1.2.3"]),
            "invalid public IP address: 1.2.3",
        ),
        (
            vec!["-listen=172.31.0.1:8888", "-net-config-path=/run/good.json"],
            "-insecure",
        ),
        (
            vec!["-listen=8888", "-net-config-path=/run/good.json"],
            "HOST:PORT",
        ),
        (vec!["-remote=172.31.0.1:8888"], "-insecure"),
        (vec!["-remote=172.31.0.1"], "HOST:PORT"),
        (
            vec!["-remote=172.31.0.1:8888", "-remote-cafile=/run/ca.crt"],
            "-remote-keyfile is missing",
        ),
        (vec!["-no-such-flag"], "there is no flag -no-such-flag"),
        (vec!["-ip-masq=maybe"], "-ip-masq cannot be \"maybe\""),
        (vec!["cleanupp"], "there is no command \"cleanupp\""),
        (vec!["version", "x"], "unexpected argument \"x\""),
        (
            vec!["-subnet-lease-renew-margin=0"],
            "Invalid subnet-lease-renew-margin option, out of acceptable range",
        ),
        (vec!["lease"], "usage: flanneld [flags] lease export"),
        (vec!["pki"], "flanneld pki -h"),
        (vec!["pki", "issue"], "usage: flanneld pki init"),
        (vec!["pki", "issue", "a/b"], "cannot be a name"),
        (vec!["check-config"], "missing: FILE"),
        (vec!["install-conf", "/a"], "missing: DST"),
        (
            vec!["install-cni", "-plugins=bogus"],
            "is not a plugin of flanneld",
        ),
        (vec!["uninstall-cni", "-bogus"], "there is no flag -bogus"),
        (vec!["help", "bogus"], "there is no command \"bogus\""),
    ] {
        ends_with(&underlay.hosts[0], &args, 2, text);
    }
}

#[scenario]
fn other_failures_of_a_start_have_code_1() {
    let underlay = host_with_configurations();
    for (args, text) in [
        (
            vec!["-kube-subnet-mgr"],
            "failed to read net conf: /etc/kube-flannel/net-conf.json",
        ),
        (with(&[]), "/etc/kube-flannel/net-conf.json"),
        (
            with(&["-net-config-path=/run/broken.json"]),
            "/run/broken.json",
        ),
        (
            with(&["-net-config-path=/run/unknown.json"]),
            "unknown backend type: carrier-pigeon",
        ),
        (with(&["-net-config-path=/run/none.json"]), "/run/none.json"),
        (
            with(&["-net-config-path=/run/good.json", "-iface=nope"]),
            "-iface=nope",
        ),
        (
            vec!["lease", "export", "-listen=127.0.0.1:1", "-store=/run/none"],
            "there is no lease store /run/none",
        ),
        (vec!["check-config", "/run/broken.json"], "/run/broken.json"),
        (
            vec!["pki", "issue", "a", "-dir=/run/none"],
            "there is no authority in /run/none",
        ),
        (vec!["install-conf", "/run/none", "/run/x"], "/run/none"),
    ] {
        ends_with(&underlay.hosts[0], &args, 1, text);
    }
}

#[scenario]
fn version_and_help_are_printed() {
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    for flag in ["-version", "--version"] {
        let (code, stdout, stderr) = run(host, &[flag], &[]);
        assert_eq!((code, stdout.as_str()), (0, ""));
        assert!(stderr.starts_with('v'), "{stderr}");
    }
    let (code, stdout, _) = run(host, &["version"], &[]);
    assert!(code == 0 && stdout.starts_with('v'), "{stdout}");
    for help in ["help", "-help", "-h", "--help"] {
        let (code, stdout, _) = run(host, &[help], &[]);
        assert!(
            code == 0 && stdout.contains("  -listen HOST:PORT "),
            "{help}: {code} {stdout}"
        );
    }
    let (code, stdout, _) = run(host, &["help", "pki"], &[]);
    assert!(
        code == 0 && stdout.contains("Usage: flanneld pki "),
        "{stdout}"
    );
}

#[scenario]
fn variables_are_read_and_refused_by_name_and_passwords_are_not_shown() {
    let underlay = host_with_configurations();
    let host = &underlay.hosts[0];
    let env = [
        ("FLANNELD_KUBE_SUBNET_MGR", "true"),
        ("FLANNELD_ETCD_PASSWORD", "hunter2"),
    ];
    let (code, _, stderr) = run(host, &[], &env);
    assert!(
        code == 1 && stderr.contains("failed to read net conf"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
    let args = with(&["-net-config-path=/run/good.json"]);
    let (code, _, stderr) = run(host, &args, &[("FLANNELD_IP_MASQ", "maybe")]);
    assert!(
        code == 2 && stderr.contains("the variable FLANNELD_IP_MASQ cannot be used: "),
        "{stderr}"
    );
}

/// Root without the capabilities is any other user. The daemon does not run without one of them,
/// and does not try again under systemd.
#[scenario]
fn daemon_that_may_not_change_the_network_is_refused() {
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    host.sh(&format!("echo '{V4}' > /run/net-conf.json"));
    for (without, missing) in [
        ("-net_admin", "CAP_NET_ADMIN is missing"),
        ("-net_raw", "CAP_NET_RAW is missing"),
        (
            "-net_admin,-net_raw",
            "CAP_NET_ADMIN and CAP_NET_RAW are missing",
        ),
    ] {
        let flanneld = program("flanneld");
        let output = host.try_sh(&format!(
            "setpriv --bounding-set={without} --inh-caps={without} timeout 10 {} -listen=127.0.0.1:8888 \
             -net-config-path=/run/net-conf.json",
            flanneld.display()
        ));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{without}: {stderr}");
        let advice = "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW";
        assert!(
            stderr.contains(missing) && stderr.contains(advice),
            "{without}: {stderr}"
        );
    }
    let store = host.try_sh("ls /var/lib/flannel/leases.redb");
    assert!(!store.status.success(), "nothing is made before");
    let without = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin";
    let cleanup = format!("{without} {} cleanup -yes", program("flanneld").display());
    let output = host.try_sh(&cleanup);
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && says.contains("CAP_NET_ADMIN is missing"),
        "{says}"
    );
}

#[scenario]
fn health_port_in_use_is_an_error() {
    let mut cluster = Cluster::idle(1, V4);
    let taken = cluster
        .host(1)
        .run(|| std::net::TcpListener::bind("127.0.0.1:8081").expect("bind"));
    cluster.start(1, &[]);
    let status = cluster.daemon(1).wait(TIMEOUT);
    let log = cluster.daemon(1).output();
    assert!(
        !status.success() && log.contains("127.0.0.1:8081") && log.contains("-healthz-port"),
        "{log}"
    );
    drop(taken);
}

/// The device of Go flannel or of an earlier run.
#[scenario]
fn existing_device_is_adopted_with_its_mac() {
    let mut cluster = Cluster::idle(1, V4);
    let host = cluster.host(1);
    host.sh(
        "ip link add flannel.1 address 02:00:00:00:ab:cd mtu 1450 type vxlan id 1 local 172.31.0.1 dev eth0 dstport 8472 nolearning \
         && ip addr add 10.244.177.0/32 dev flannel.1 && ip link set flannel.1 up \
         && ip route add 10.244.200.0/24 via 10.244.200.0 dev flannel.1 onlink",
    );
    let index = host.sh("ip -o link show flannel.1 | cut -d: -f1");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    assert_eq!(host.sh("ip -o link show flannel.1 | cut -d: -f1"), index);
    assert_eq!(cluster.mac(1, "flannel.1"), "02:00:00:00:ab:cd");
    assert_eq!(host.sh("ip route show dev flannel.1"), "", "a stale route");
    let addresses = host.sh("ip -o -4 addr show flannel.1");
    assert!(
        addresses.contains(&cluster.subnet(1).replace("/24", "/32")),
        "{addresses}"
    );
    assert_eq!(
        addresses.lines().count(),
        1,
        "the address of an earlier lease is removed: {addresses}"
    );
}

/// They are removed once the nftables rules are in place; other rules stay.
#[scenario]
fn iptables_rules_of_go_flanneld_are_replaced() {
    let mut cluster = Cluster::idle(1, V4);
    let host = cluster.host(1);
    host.sh("iptables -t nat -N FLANNEL-POSTRTG && iptables -N FLANNEL-FWD \
        && iptables -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG \
        && iptables -t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment 'flanneld masq' -j MASQUERADE --random-fully \
        && iptables -A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD \
        && iptables -A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment 'flanneld forward' -j ACCEPT \
        && iptables -A FORWARD -s 192.0.2.7 -j DROP && iptables -t nat -A POSTROUTING -s 192.0.2.7 -j ACCEPT");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let rules = cluster.host(1).sh("iptables-save | grep '^-A'");
    assert_eq!(
        rules,
        "-A FORWARD -s 192.0.2.7/32 -j DROP\n-A POSTROUTING -s 192.0.2.7/32 -j ACCEPT\n"
    );
    assert!(
        cluster
            .host(1)
            .sh("nft list table ip flannel-ipv4")
            .contains("masquerade")
    );
    let log = cluster.stop(1);
    assert!(
        log.contains("removed the iptables masquerade rules of an earlier flanneld"),
        "{log}"
    );
}

#[scenario]
fn disabled_family_leaves_no_device() {
    let mut cluster = Cluster::new(1, DUAL);
    cluster.stop(1);
    cluster.host(1).sh(&format!(
        "rm /var/lib/flannel/leases.redb; echo '{V4}' > /run/net-conf.json"
    ));
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    assert!(!host.try_sh("ip link show flannel-v6.1").status.success());
    assert!(!host.sh("cat /run/flannel/subnet.env").contains("IPV6"));
    assert!(!host.sh("nft list table ip6 flannel-ipv6").contains("chain"));
}

/// Packets between neighbours on the underlay are not encapsulated. Without DirectRouting the
/// routes go.
#[scenario]
fn direct_routing_follows_the_configuration() {
    let direct = DUAL.replace(
        r#""Type":"vxlan""#,
        r#""Type":"vxlan","DirectRouting":true"#,
    );
    let mut cluster = Cluster::new(2, &direct);
    let (peer, peer6) = (cluster.subnet(2), cluster.subnet6(2));
    let routes = "ip route; ip -6 route";
    let direct = [
        format!("{peer} via 172.31.0.2 dev eth0"),
        format!("{peer6} via fd31::2 dev eth0"),
    ];
    for route in &direct {
        eventually_shows(&cluster, 1, routes, route);
    }
    assert_eq!(cluster.host(1).sh("bridge fdb show dev flannel.1"), "");
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    cluster
        .host(1)
        .sh(&format!("ip route del {peer}; ip -6 route del {peer6}"));
    for route in &direct {
        eventually_shows(&cluster, 1, routes, route);
    }
    drop(pods);
    cluster.stop(1);
    cluster.host(1).sh(&format!(
        "ip route add 10.244.200.0/24 via 172.31.0.9; echo '{DUAL}' > /run/net-conf.json"
    ));
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let tunnels = [(&peer, "/24", "flannel.1"), (&peer6, "/64", "flannel-v6.1")];
    for (peer, length, device) in tunnels {
        let gateway = peer.replace(length, "");
        let route = format!("{peer} via {gateway} dev {device} proto 70");
        eventually_shows(&cluster, 1, routes, &route);
    }
    let routes = cluster.host(1).sh(routes);
    for gone in [&direct[0], &direct[1], "10.244.200.0/24"] {
        assert!(!routes.contains(gone), "{gone}: {routes}");
    }
}

/// It fails, and the peers remove the node's entries.
#[scenario]
fn revoked_lease_stops_the_daemon() {
    let mut cluster = Cluster::new(2, V4);
    let subnet = cluster.subnet(2);
    delete(
        cluster.host(1),
        "172.31.0.1:8888",
        &format!("/v1/_/leases/{}", subnet.replace('/', "-")),
    );
    let status = cluster.daemon(2).wait(TIMEOUT);
    let log = cluster.daemon(2).output();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("Lease has been revoked. Shutting down daemon."),
        "{log}"
    );
    eventually("the peers remove the node", TIMEOUT, || {
        let left = cluster.host(1).sh("ip route show dev flannel.1; bridge fdb show dev flannel.1; ip neigh show dev flannel.1 nud permanent");
        left.is_empty().then_some(())
    });
}

/// The machine with the store takes another subnet, and the other nodes still get leases.
#[scenario]
fn revoked_lease_of_the_server_does_not_end_its_service() {
    let mut cluster = Cluster::idle(2, V4);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let subnet = cluster.subnet(1);
    delete(
        cluster.host(1),
        "172.31.0.1:8888",
        &format!("/v1/_/leases/{}", subnet.replace('/', "-")),
    );
    eventually("the server says so", TIMEOUT, || {
        let log = cluster.daemon(1).output();
        log.contains("goes on serving leases").then_some(())
    });
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    cluster.wait_ready(1);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

#[scenario]
fn unwritable_files_are_logged_and_delay_only_readiness() {
    let mut cluster = Cluster::idle(1, V4);
    cluster
        .host(1)
        .sh("mkdir -p /run/flannel/subnet.env/full /var/lib/flannel/node.json");
    cluster.start(1, &[]);
    eventually("both files are logged", TIMEOUT, || {
        let log = cluster.daemon(1).output();
        (log.contains("failed to write /run/flannel/subnet.env")
            && log.contains("cannot write /var/lib/flannel/node.json"))
        .then_some(())
    });
    assert!(
        !cluster.is_ready(1),
        "pods cannot be made without subnet.env"
    );
    let answer = get(cluster.host(1), "/readyz?verbose");
    assert!(
        answer.contains("failed to write /run/flannel/subnet.env, without which no pod starts: "),
        "{answer}"
    );
    cluster
        .host(1)
        .sh("rmdir /run/flannel/subnet.env/full /var/lib/flannel/node.json");
    cluster.wait_ready(1);
    let kept = cluster.host(1).sh("cat /var/lib/flannel/node.json");
    assert!(kept.contains(&cluster.mac(1, "flannel.1")), "{kept}");
}
