//! Objects of ours that somebody deletes or changes are restored within 100 ms; all others are left
//! alone.

use super::cluster::{Cluster, DUAL, V4, main_routes};
use linux_net::Netlink;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tests::{Host, process::eventually, scenario, underlay};

/// The documented limit.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(100);
/// For one restoration on a loaded test machine; the periodic pass comes later.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Every object of ours on the host, as text; a missing device or table leaves out its lines.
pub(super) fn snapshot(host: &Host) -> String {
    let output = host.try_sh(
        "for d in flannel.1 flannel-v6.1; do \
           ip -d link show $d | sed 's/^[0-9]*: //; s/ qlen [0-9]*//' | grep -v -e 'valid_lft' ; \
           ip -o addr show $d scope global | sed 's/^[0-9]*: //'; \
           ip neigh show dev $d nud permanent | sort; bridge fdb show dev $d | sort; \
           ip route show dev $d; ip -6 route show dev $d | grep -v fe80 | grep via; \
         done; nft list table ip flannel-ipv4; nft list table ip6 flannel-ipv6",
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn is_restored_after(host: &Host, command: &str) {
    let before = snapshot(host);
    host.sh(command);
    eventually(&format!("restored after `{command}`"), TEST_TIMEOUT, || {
        (snapshot(host) == before).then_some(())
    });
}

#[scenario]
fn deleted_or_changed_entries_are_restored() {
    let cluster = Cluster::new(3, DUAL);
    let host = cluster.host(1);
    let (peer, peer6) = (cluster.subnet(2), cluster.subnet6(2));
    let (gw, gw6) = (peer.replace("/24", ""), peer6.replace("/64", ""));
    let mac = cluster.mac(2, "flannel.1");
    for what in [
        format!("ip route del {peer}"),
        format!("ip -6 route del {peer6}"),
        "ip route flush dev flannel.1".to_owned(),
        format!("ip route replace {peer} via {} dev eth0", underlay::ip(2)),
        format!("ip neigh del {gw} dev flannel.1"),
        format!("ip -6 neigh del {gw6} dev flannel-v6.1"),
        format!("ip neigh replace {gw} lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent"),
        format!("ip neigh replace {gw} lladdr {mac} dev flannel.1 nud reachable"),
        format!("bridge fdb del {mac} dev flannel.1"),
        format!(
            "bridge fdb replace {mac} dev flannel.1 dst {} self permanent",
            underlay::ip(3)
        ),
        format!(
            "bridge fdb append {mac} dev flannel.1 dst {} self permanent",
            underlay::ip(3)
        ),
        "bridge fdb add 02:00:00:00:00:55 dev flannel.1 dst 172.31.0.77 self permanent".to_owned(),
        "ip neigh add 10.244.200.0 lladdr 02:00:00:00:00:66 dev flannel.1 nud permanent".to_owned(),
        "ip route add 10.244.200.0/24 via 10.244.200.0 dev flannel.1 onlink".to_owned(),
        format!(
            "ip addr del {}/32 dev flannel.1",
            cluster.subnet(1).replace("/24", "")
        ),
        format!(
            "ip addr del {}/128 dev flannel-v6.1",
            cluster.subnet6(1).replace("/64", "")
        ),
        "ip addr add 10.244.199.9/32 dev flannel.1".to_owned(),
        // attributes that are not flanneld's
        format!(
            "bridge fdb replace {mac} dev flannel.1 dst {} port 9999 self permanent",
            underlay::ip(2)
        ),
        format!(
            "bridge fdb replace {mac} dev flannel.1 dst {} vni 77 self permanent",
            underlay::ip(2)
        ),
        format!("ip route change {peer} via {gw} dev flannel.1 onlink proto 70 mtu 500"),
        format!("ip route change {peer} via {gw} dev flannel.1 onlink proto 70 src 172.31.0.1"),
        format!("ip route change {peer} via {gw} dev flannel.1 onlink proto 70 window 99"),
        format!("ip -6 route change {peer6} via {gw6} dev flannel-v6.1 onlink proto 70 mtu 1290"),
        // as Go flannel makes it
        format!("ip route replace {peer} via {gw} dev flannel.1 onlink"),
    ] {
        is_restored_after(host, &what);
    }
}

#[scenario]
fn deleted_or_changed_devices_are_restored() {
    let mut cluster = Cluster::new(3, DUAL);
    let host = cluster.host(1);
    for what in [
        "ip link del flannel.1",
        "ip link del flannel-v6.1",
        "ip link set flannel.1 down",
        "ip link set flannel-v6.1 down",
        "ip link set flannel.1 mtu 1300",
        "ip link set flannel.1 address 02:00:00:00:00:42",
        "ip link add br9 type bridge && ip link set flannel.1 master br9",
        "ip link set flannel.1 name other",
        "ip link set flannel-v6.1 down name other6",
    ] {
        is_restored_after(host, what);
    }
    // another device takes the name while the daemon is stopped
    let before = snapshot(host);
    for other in ["bridge", "vxlan id 7 dstport 8472 dev eth0"] {
        cluster.daemon(1).signal(Signal::SIGSTOP);
        cluster.host(1).sh(&format!(
            "ip link del flannel.1 && ip link add flannel.1 type {other}"
        ));
        cluster.daemon(1).signal(Signal::SIGCONT);
        let host = cluster.host(1);
        eventually(other, TEST_TIMEOUT, || {
            (snapshot(host) == before).then_some(())
        });
    }
    let pods = [
        (1, cluster.pod(1)),
        (2, cluster.pod(2)),
        (3, cluster.pod(3)),
    ];
    cluster.ping_all(&pods);
}

#[scenario]
fn deleted_or_changed_rules_are_restored() {
    let cluster = Cluster::new(1, DUAL);
    let host = cluster.host(1);
    for what in [
        "nft flush ruleset",
        "nft delete table ip flannel-ipv4",
        "nft delete table ip6 flannel-ipv6",
        "nft flush chain ip flannel-ipv4 postrtg",
        "nft delete rule ip flannel-ipv4 forward handle $(nft -a list chain ip flannel-ipv4 forward | sed -n 's/.*accept # handle //p' | head -n1)",
        "nft insert rule ip flannel-ipv4 forward drop",
        "nft add chain ip flannel-ipv4 mine",
        "nft add table ip flannel-ipv4 '{ flags dormant; }'",
        "nft add table ip6 flannel-ipv6 '{ flags dormant; }'",
    ] {
        is_restored_after(host, what);
    }
}

#[scenario]
fn deleted_or_changed_subnet_env_is_restored() {
    let mut cluster = Cluster::new(1, V4);
    let host = cluster.host(1);
    let before = host.sh("cat /run/flannel/subnet.env");
    for what in [
        "rm -r /run/flannel",
        "echo FLANNEL_MTU > /run/flannel/subnet.env",
        "rm /run/flannel/subnet.env && mkfifo /run/flannel/subnet.env",
        "rm /run/flannel/subnet.env && mkdir /run/flannel/subnet.env",
        "rm /run/flannel/subnet.env && ln -s /dev/zero /run/flannel/subnet.env",
    ] {
        host.sh(what);
        eventually(what, Duration::from_secs(3), || {
            let read = "test -f /run/flannel/subnet.env && cat /run/flannel/subnet.env";
            (host.try_sh(read).stdout == before.as_bytes()).then_some(())
        });
    }
    assert!(cluster.is_ready(1));
    let log = cluster.stop(1);
    assert!(log.contains("wrote /run/flannel/subnet.env"), "{log}");
}

/// Measured without the cost of commands: of twenty deletions of a route, half are undone in time.
#[scenario]
fn route_is_restored_within_100_ms() {
    let cluster = Cluster::new(2, V4);
    let peer = cluster.subnet(2);
    let host = cluster.host(1);
    let mut times: Vec<Duration> = host.run(|| {
        let mut netlink = Netlink::open().expect("netlink");
        let find = |netlink: &mut Netlink| {
            let mut routes = main_routes(netlink).into_iter();
            routes.find(|route| route.dst.to_string() == peer)
        };
        let mut delete = || {
            let route = find(&mut netlink).expect("the route");
            netlink
                .request(&linux_net::route::delete(&route))
                .expect("delete");
            let start = Instant::now();
            while find(&mut netlink).is_none() {
                assert!(
                    start.elapsed() < Duration::from_secs(5),
                    "the route was never restored"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            start.elapsed()
        };
        (0..20).map(|_| delete()).collect()
    });
    times.sort();
    assert!(times[10] < RESTORE_TIMEOUT, "{times:?}");
}

#[scenario]
fn objects_that_are_not_ours_are_left_alone() {
    let cluster = Cluster::new(2, V4);
    let host = cluster.host(1);
    host.sh("ip route add 192.168.77.0/24 via 172.31.0.254");
    host.sh("ip route add 10.244.222.0/24 via 172.31.0.254");
    host.sh("ip route add 192.168.78.0/24 via 10.244.209.9 dev flannel.1 onlink");
    host.sh("ip addr add 192.168.79.1/32 dev flannel.1");
    host.sh("nft add table ip mine && nft add chain ip mine c");
    host.sh("ip link add flannel.9 type vxlan id 9 dstport 4790 dev eth0");
    let peer = cluster.subnet(2);
    host.sh(&format!("ip route add {peer} via 172.31.0.254 metric 50"));
    wait_for_a_pass(host);
    for (what, look) in [
        ("192.168.77.0/24", "ip route"),
        ("10.244.222.0/24", "ip route"),
        ("192.168.78.0/24", "ip route"),
        ("metric 50", "ip route"),
        ("192.168.79.1/32", "ip addr show flannel.1"),
        ("table ip mine", "nft list ruleset"),
        ("flannel.9", "ip link"),
    ] {
        let text = host.sh(look);
        assert!(text.contains(what), "{what} is gone:\n{text}");
    }
}

/// Returns after the daemon has read the host and made a pass: the device has its MTU again.
fn wait_for_a_pass(host: &Host) {
    host.sh("ip link set flannel.1 mtu 1300");
    eventually("the MTU is restored", TEST_TIMEOUT, || {
        host.sh("ip link show flannel.1")
            .contains("mtu 1450")
            .then_some(())
    });
}

/// What is right and what is not ours stays.
#[scenario]
fn leftovers_of_an_earlier_run_are_removed() {
    let mut cluster = Cluster::new(2, V4);
    let before = snapshot_v4(cluster.host(1));
    cluster.stop(1);
    let host = cluster.host(1);
    host.sh("ip route add 10.244.200.0/24 via 10.244.200.0 dev flannel.1 onlink");
    host.sh("ip neigh add 10.244.200.0 lladdr 02:00:00:00:00:66 dev flannel.1 nud permanent");
    host.sh("bridge fdb add 02:00:00:00:00:66 dev flannel.1 dst 172.31.0.77 self permanent");
    host.sh("ip route add 10.9.7.0/24 via 10.9.7.0 dev flannel.1 onlink");
    host.sh("ip route add 10.244.222.0/24 via 172.31.0.254");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    assert_eq!(snapshot_v4(host), before);
    assert!(
        host.sh("ip route")
            .contains("10.244.222.0/24 via 172.31.0.254"),
        "a route that is not ours"
    );
}

fn snapshot_v4(host: &Host) -> String {
    host.sh("ip neigh show dev flannel.1 nud permanent | sort; bridge fdb show dev flannel.1 | sort; ip route show dev flannel.1; ip -o link show flannel.1")
}
