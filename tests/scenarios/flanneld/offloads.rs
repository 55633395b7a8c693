//! MTU of pods, and the checksum offload of vxlan devices.

use super::cluster::{Cluster, TIMEOUT, V4, eventually_shows, get};
use tests::{process::eventually, scenario};

const SHOW: &str = "ethtool -k flannel.1 | grep tx-checksum-ip-generic";

/// Off at the start, and again after another program or a new device has it on; on likewise.
#[scenario]
fn tx_checksum_offload_is_kept_as_the_option_says() {
    let mut cluster = Cluster::idle(1, V4);
    for (option, kept, other) in [("off", "off", "on"), ("on", "on", "off")] {
        cluster.start(1, &[&format!("-tx-checksum-offload={option}")]);
        cluster.wait_ready(1);
        let shows = || eventually_shows(&cluster, 1, SHOW, &format!("generic: {kept}"));
        shows();
        for change in [
            format!("ethtool -K flannel.1 tx-checksum-ip-generic {other}"),
            "ip link del flannel.1".to_owned(),
        ] {
            cluster.host(1).sh(&change);
            eventually_shows(&cluster, 1, "ip -o link", "flannel.1");
            eventually("the offload is as it was", TIMEOUT, || {
                let shown = cluster.host(1).try_sh(SHOW);
                let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                text.contains(&format!("generic: {kept}")).then_some(())
            });
        }
        cluster.stop(1);
    }
}

/// What an administrator set stays where no trap is known.
#[scenario]
fn tx_checksum_offload_is_left_alone_without_a_trap() {
    let mut cluster = Cluster::new(1, V4);
    let off = "ethtool -K flannel.1 tx-checksum-ip-generic off";
    cluster.host(1).sh(off);
    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let shown = cluster.host(1).sh(SHOW);
    assert!(shown.contains("generic: off"), "{shown}");
}

/// The pod is made by hand with 1500; then the underlay shrinks, and the pod is mended.
#[scenario]
fn pods_whose_mtu_exceeds_the_path_are_reported() {
    let mut cluster = Cluster::new(1, V4);
    cluster.pod(1);
    let says = |cluster: &Cluster, text: &str| {
        eventually(text, TIMEOUT, || {
            let status = get(cluster.host(1), "/readyz?verbose");
            (status.contains("flanneld is ready") && status.contains(text)).then_some(())
        });
    };
    cluster.host(1).sh("ip link set eth0 mtu 1400");
    says(
        &cluster,
        "1 interface of pods on cni0 with an MTU of up to 1500, of which the path to other nodes takes 1350",
    );
    cluster
        .host(1)
        .sh("ip link set veth0 mtu 1350 && ip link set eth0 mtu 1401 && ip link set eth0 mtu 1400");
    eventually("nothing is reported", TIMEOUT, || {
        let status = get(cluster.host(1), "/readyz?verbose");
        (!status.contains("of pods on cni0")).then_some(())
    });
    let log = cluster.daemon(1).output();
    assert!(log.contains("1 interface of pods on cni0"), "{log}");
}
