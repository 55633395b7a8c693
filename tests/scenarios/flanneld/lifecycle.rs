//! Nodes leave and return, daemons are killed and started again under traffic, the lease store goes and comes back.

use super::{
    cluster::{Cluster, DUAL, V4, get},
    repair::snapshot,
};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};
use tests::{Case, Host, case, process::eventually, underlay};

const LIMIT: Duration = Duration::from_secs(15);

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("flanneld/lifecycle/new_mac", new_mac),
        case("flanneld/lifecycle/new_public_ip", new_public_ip),
        case(
            "flanneld/lifecycle/underlay_address_changes",
            underlay_address_changes,
        ),
        case(
            "flanneld/lifecycle/underlay_mtu_changes",
            underlay_mtu_changes,
        ),
        case("flanneld/lifecycle/underlay_flaps", underlay_flaps),
        case(
            "flanneld/lifecycle/killed_under_traffic",
            killed_under_traffic,
        ),
        case("flanneld/lifecycle/store_away", store_away),
        case("flanneld/lifecycle/settings_change", settings_change),
        case("flanneld/lifecycle/cleanup", cleanup),
        case("flanneld/lifecycle/cleanup_refuses", cleanup_refuses),
        case(
            "flanneld/lifecycle/cleanup_plugin_tables",
            cleanup_plugin_tables,
        ),
        case(
            "flanneld/lifecycle/cleanup_plugin_chains",
            cleanup_plugin_chains,
        ),
        case("flanneld/lifecycle/signals", signals),
    ]
}

#[track_caller]
fn eventually_shows(cluster: &Cluster, node: usize, command: &str, text: &str) {
    eventually(
        &format!("`{command}` on node {node} shows {text}"),
        LIMIT,
        || cluster.host(node).sh(command).contains(text).then_some(()),
    );
}

/// A node that comes back with another MAC: neighbour and forwarding entry follow, the old entry goes.
fn new_mac() {
    let mut cluster = Cluster::new(2, V4);
    let old = cluster.mac(2, "flannel.1");
    let subnet = cluster.subnet(2);
    cluster.stop(2);
    cluster
        .host(2)
        .sh("ip link del flannel.1 && rm /var/lib/flannel/node.json");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let new = cluster.mac(2, "flannel.1");
    assert_ne!(old, new);
    assert_eq!(
        cluster.subnet(2),
        subnet,
        "the same subnet again for the same public IP"
    );
    eventually_shows(&cluster, 1, "bridge fdb show dev flannel.1", &new);
    eventually_shows(&cluster, 1, "ip neigh show dev flannel.1", &new);
    assert!(
        !cluster
            .host(1)
            .sh("bridge fdb show dev flannel.1")
            .contains(&old)
    );
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// A node that left and comes back under another address: the others send there.
fn new_public_ip() {
    let mut cluster = Cluster::new(2, V4);
    cluster.stop(2);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually_shows(
        &cluster,
        1,
        "bridge fdb show dev flannel.1",
        "dst 172.31.0.77",
    );
    eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// The same while the daemon runs: it notices, and tells the others.
fn underlay_address_changes() {
    let mut cluster = Cluster::new(2, V4);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    eventually_shows(
        &cluster,
        1,
        "bridge fdb show dev flannel.1",
        "dst 172.31.0.77",
    );
    eventually_shows(
        &cluster,
        2,
        "ip -d link show flannel.1",
        "local 172.31.0.77",
    );
    cluster.wait_ready(2);
    eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// Device and subnet.env follow the interface's MTU; the device is not made anew.
fn underlay_mtu_changes() {
    let cluster = Cluster::new(1, DUAL);
    let host = cluster.host(1);
    let index = host.sh("ip -o link show flannel.1 | cut -d: -f1");
    host.sh("ip link set eth0 mtu 1400");
    eventually_shows(&cluster, 1, "ip link show flannel.1", "mtu 1350");
    eventually_shows(&cluster, 1, "ip link show flannel-v6.1", "mtu 1330");
    eventually_shows(
        &cluster,
        1,
        "cat /run/flannel/subnet.env",
        "FLANNEL_MTU=1350",
    );
    assert_eq!(host.sh("ip -o link show flannel.1 | cut -d: -f1"), index);
}

/// The interface goes down and up, or its default route does: all comes back.
fn underlay_flaps() {
    let mut cluster = Cluster::new(2, V4);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let host = cluster.host(1);
    host.sh("ip link set eth0 down");
    thread::sleep(Duration::from_millis(200));
    host.sh("ip link set eth0 up && ip route replace default via 172.31.0.254");
    cluster.ping_all(&pods);
    drop(pods);
    cluster.wait_ready(1);
}

/// kill -9 and a new start under a ping and a TCP stream: not one packet is lost, not one byte is late for ever.
fn killed_under_traffic() {
    let mut cluster = Cluster::new(2, DUAL);
    let ips = cluster.pod_ips(2);
    let (host1, host2) = (1, 2);
    cluster.pod(host1);
    cluster.pod(host2);
    let before = snapshot(cluster.host(1));
    let indexes = cluster.host(1).sh("ip -o link | cut -d: -f1,2");
    let mut pings: Vec<_> = ips
        .iter()
        .map(|ip| {
            let mut command = Command::new("ip");
            command.args([
                "netns", "exec", "pod", "ping", "-n", "-i", "0.02", "-c", "150", "-W", "2", ip,
            ]);
            cluster.host(1).spawn(command)
        })
        .collect();
    let stream = {
        let server = pod_run(&cluster, 2, || {
            TcpListener::bind("[::]:7000").expect("listen")
        });
        thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("accept");
            let mut bytes = Vec::new();
            stream
                .read_to_end(&mut bytes)
                .expect("the stream ends well");
            bytes.len()
        });
        let target = format!("{}:7000", ips[0]);
        pod_run(&cluster, 1, move || {
            TcpStream::connect(target).expect("connect")
        })
    };
    let sender = thread::spawn(move || {
        let mut stream = stream;
        for _ in 0..100 {
            stream.write_all(&[7; 1000]).expect("the stream stays");
            thread::sleep(Duration::from_millis(25));
        }
    });
    for node in [1, 2] {
        thread::sleep(Duration::from_millis(300));
        cluster.kill(node);
        thread::sleep(Duration::from_millis(300));
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    sender.join().expect("the stream stays");
    for ping in &mut pings {
        assert!(
            ping.wait(Duration::from_secs(20)).success(),
            "{}",
            ping.output()
        );
        let said = ping.output();
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    assert_eq!(snapshot(cluster.host(1)), before);
    assert_eq!(
        cluster.host(1).sh("ip -o link | cut -d: -f1,2"),
        indexes,
        "devices are adopted"
    );
}

fn pod_run<T: Send>(cluster: &Cluster, node: usize, f: impl FnOnce() -> T + Send) -> T {
    tests::Pod {
        name: "pod".to_owned(),
        host: cluster.host(node),
    }
    .run(f)
}

/// Without the store the others go on, even through a restart; when it is back they catch up.
fn store_away() {
    let mut cluster = Cluster::new(3, V4);
    let pods = [(2, ()), (3, ())];
    for (node, ()) in pods {
        cluster.pod(node);
    }
    cluster.kill(1);
    let ip = cluster.pod_ips(3).remove(0);
    let ping = format!("ip netns exec pod ping -n -c1 -W2 {ip}");
    cluster.host(2).sh(&ping);
    // repairs go on
    let subnet = cluster.subnet(3);
    cluster.host(2).sh(&format!("ip route del {subnet}"));
    eventually_shows(&cluster, 2, "ip route", &subnet);
    // a restart waits for the store, and leaves the data path as it is
    cluster.kill(2);
    cluster.start(2, &[]);
    thread::sleep(Duration::from_millis(500));
    assert!(!cluster.is_ready(2) && cluster.daemon(2).is_running());
    cluster.host(2).sh(&ping);
    cluster
        .host(3)
        .sh("ip link set flannel.1 address 02:00:00:00:00:03");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    cluster.wait_ready(2);
    cluster.wait_ready(3);
    eventually_shows(&cluster, 1, "ip route", &subnet);
    cluster.host(2).sh(&ping);
}

/// What the configuration changes about a device is changed: in place where the kernel can, else by a new device with the
/// same MAC.
fn settings_change() {
    let mut cluster = Cluster::new(1, V4);
    let mac = cluster.mac(1, "flannel.1");
    let index = |cluster: &Cluster| {
        cluster
            .host(1)
            .sh("ip -o link show flannel.1 | cut -d: -f1")
    };
    let first = index(&cluster);
    let with = |backend: &str, cluster: &mut Cluster| {
        cluster.stop(1);
        cluster.host(1).sh(&format!(
            r#"echo '{{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan",{backend}}}}}' > /run/net-conf.json"#
        ));
        cluster.start(1, &[]);
        cluster.wait_ready(1);
        assert_eq!(cluster.mac(1, "flannel.1"), mac, "{backend}");
        cluster.host(1).sh("ip -d link show flannel.1")
    };
    let link = with(r#""MTU":1400"#, &mut cluster);
    assert!(link.contains("mtu 1350"), "{link}");
    assert_eq!(index(&cluster), first, "an MTU is changed in place");
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1350");
    let link = with(r#""Port":4789"#, &mut cluster);
    assert!(
        link.contains("dstport 4789") && link.contains("mtu 1450"),
        "{link}"
    );
    let link = with(r#""Port":4789,"GBP":true"#, &mut cluster);
    assert!(link.contains(" gbp"), "{link}");
    let link = with(r#""Learning":true"#, &mut cluster);
    assert!(!link.contains("nolearning"), "{link}");
}

/// Cleanup after the daemon's end leaves nothing; a second time there is nothing to do.
fn cleanup() {
    let mut cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    host.sh("ip route add 192.168.77.0/24 via 172.31.0.254 && nft add table ip mine");
    cluster.stop(1);
    let flanneld = tests::binaries::program("flanneld");
    let command = format!("{} cleanup", flanneld.display());
    let host = cluster.host(1);
    let said = host.sh(&command);
    for line in [
        "removed device flannel.1",
        "removed device flannel-v6.1",
        "removed nftables table ip flannel-ipv4",
        "removed nftables table ip6 flannel-ipv6",
        "removed /run/flannel/subnet.env",
        "removed /var/lib/flannel/node.json",
        "left /var/lib/flannel/leases.redb",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
    assert_eq!(
        host.sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | xargs"),
        "lo eth0\n"
    );
    assert_eq!(host.sh("nft list ruleset").trim(), "table ip mine {\n}");
    assert_eq!(host.sh("ls /run/flannel"), "");
    assert!(host.sh("ip route").contains("192.168.77.0/24"));
    let again = host.sh(&command);
    assert!(!again.contains("removed"), "{again}");
}

/// A bridge with pods stays, and so does one that cannot be told to be ours; a running daemon is noticed.
fn cleanup_refuses() {
    let mut cluster = Cluster::new(1, V4);
    cluster.pod(1);
    let command = format!("{} cleanup", tests::binaries::program("flanneld").display());
    let output = cluster.host(1).try_sh(&command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("stop flanneld first"),
        "{said}"
    );
    cluster.wait_ready(1);
    cluster.stop(1);
    let host = cluster.host(1);
    let said = host.sh(&command);
    assert!(
        said.contains("left bridge cni0: 1 interfaces are still attached"),
        "{said}"
    );
    assert!(said.contains("left /run/flannel/subnet.env"), "{said}");
    host.sh("ip link del veth0 && ip link add flannel.3 type vxlan id 4 dstport 4790 dev eth0");
    let said = host.sh(&command);
    assert!(
        said.contains("removed bridge cni0") && said.contains("removed /run/flannel/subnet.env"),
        "{said}"
    );
    host.sh("ip link show flannel.3 && ip link add cni0 type bridge");
    let said = host.sh(&command);
    assert!(
        said.contains("left bridge cni0: it has no address of the subnet in subnet.env"),
        "{said}"
    );
}

/// The plugins' shared tables go with the last pod's rule, not before.
fn cleanup_plugin_tables() {
    let host = Host::new("node");
    let command = format!("{} cleanup", tests::binaries::program("flanneld").display());
    host.sh("nft add table ip cni_hostport && nft add map ip cni_hostport hostports \
        '{ type inet_proto . inet_service : ipv4_addr . inet_service; }' \
        && nft add element ip cni_hostport hostports '{ tcp . 80 : 10.0.0.2 . 80 }' \
        && nft add table inet cni_plugins_masquerade && nft add chain inet cni_plugins_masquerade masq_checks \
        && nft add rule inet cni_plugins_masquerade masq_checks ip saddr 10.0.0.2 masquerade comment pod");
    let said = host.sh(&command);
    for table in ["cni_hostport", "cni_plugins_masquerade"] {
        let left = format!("left nftables table {table}: 1 rules of pods are still in it");
        assert!(said.contains(&left), "{said}");
    }
    host.sh("nft delete element ip cni_hostport hostports '{ tcp . 80 }' && nft flush table inet cni_plugins_masquerade");
    host.sh(&command);
    assert_eq!(host.sh("nft list ruleset"), "");
}

/// So do the chains that portmap shares among pods in iptables.
fn cleanup_plugin_chains() {
    let host = Host::new("node");
    let command = format!("{} cleanup", tests::binaries::program("flanneld").display());
    host.sh("iptables -t nat -N CNI-HOSTPORT-DNAT && iptables -t nat -N CNI-HOSTPORT-MASQ \
        && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT \
        && iptables -t nat -I POSTROUTING -m comment --comment 'CNI portfwd requiring masquerade' -j CNI-HOSTPORT-MASQ \
        && iptables -t nat -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE \
        && iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 80 -j ACCEPT");
    let said = host.sh(&command);
    assert!(
        said.contains("left portmap's iptables chains: 1 pods still have host ports"),
        "{said}"
    );
    host.sh("iptables -t nat -F CNI-HOSTPORT-DNAT");
    let said = host.sh(&command);
    assert!(said.contains("removed portmap's iptables chains"), "{said}");
    assert_eq!(host.sh("iptables-save -t nat | grep CNI || true"), "");
}

/// SIGTERM and SIGINT end it within a second at any moment, with success, and the data path stays.
fn signals() {
    let mut cluster = Cluster::new(1, V4);
    let before = cluster
        .host(1)
        .sh("ip -o addr show flannel.1; nft list ruleset; cat /run/flannel/subnet.env");
    let said = cluster.stop(1);
    assert!(
        said.contains("SIGTERM: stopping; pods keep their network"),
        "{said}"
    );
    let after = cluster
        .host(1)
        .sh("ip -o addr show flannel.1; nft list ruleset; cat /run/flannel/subnet.env");
    assert_eq!(before, after);
    // while it waits for a store that does not answer
    let mut waiting = Cluster::idle(2, V4);
    waiting.start(2, &[]);
    eventually("the health port answers", LIMIT, || {
        get(waiting.host(2), "/healthz")
            .contains("flanneld is running")
            .then_some(())
    });
    assert!(get(waiting.host(2), "/readyz").contains("503 Service Unavailable"));
    waiting.daemon(2).signal(Signal::SIGINT);
    assert!(waiting.daemon(2).wait(Duration::from_secs(1)).success());
    assert_eq!(underlay::ip(2), "172.31.0.2");
}
