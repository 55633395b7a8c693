//! Removal of pods, daemons, and of what they leave on the hosts.

use crate::{
    cluster::{CNITOOL, Cluster},
    print::{show, step},
};
use nix::sys::signal::Signal;
use std::time::Duration;

/// Deletes every pod; asserts that no reservation, veth or port rule is left.
pub(crate) fn pods(cluster: &mut Cluster) {
    for pod in std::mem::take(&mut cluster.pods) {
        let host = &cluster.underlay.hosts[pod.host];
        let ports = format!(
            r#"{{"portMappings":[{{"hostPort":{},"containerPort":80,"protocol":"tcp"}}]}}"#,
            pod.host_port
        );
        host.sh(&format!(
            "CAP_ARGS='{ports}' {CNITOOL} del cbr0 /run/netns/{}",
            pod.name
        ));
        host.sh(&format!("ip netns del {}", pod.name));
    }
    for host in &cluster.underlay.hosts {
        let reservations = host.sh("cd /var/lib/cni/networks/cbr0 && ls | grep -e '^[0-9].*\\.' -e : | grep -v -e ^lock -e ^last_ || true");
        assert_eq!(reservations, "", "{}: reservations left", host.name);
        let ports = host.sh("ip -o link show master cni0");
        assert_eq!(ports, "", "{}: veths left", host.name);
        let rules = host.sh("nft list ruleset");
        let of_pods = rules
            .lines()
            .find(|line| line.contains("dport 808") || line.contains("dnat to"));
        assert_eq!(of_pods, None, "{}: port rules left:\n{rules}", host.name);
        let elements = rules.lines().find(|line| line.contains("elements = {"));
        assert_eq!(elements, None, "{}: map elements left:\n{rules}", host.name);
    }
    step("pods deleted: no reservation, no veth, no port rule is left on any host");
    show(&cluster.underlay.hosts[0], "ls /var/lib/cni/networks/cbr0");
    show(&cluster.underlay.hosts[0], "bridge link");
}

/// Stops the daemons by SIGTERM.
pub(crate) fn daemons(cluster: &mut Cluster) {
    for daemon in &cluster.daemons {
        daemon.signal(Signal::SIGTERM);
    }
    for mut daemon in cluster.daemons.drain(..) {
        let status = daemon.wait(Duration::from_secs(2));
        assert!(
            status.success(),
            "flanneld ended with {status}:\n{}",
            daemon.output()
        );
    }
    step("flanneld stopped on every host (SIGTERM); the data path stays as it is");
    show(&cluster.underlay.hosts[0], "ip -brief link");
}

/// Runs `flanneld cleanup`; asserts that no link, rule, route or file is left.
pub(crate) fn cleanup(cluster: &Cluster) {
    show(
        &cluster.underlay.hosts[0],
        "/opt/bin/flanneld cleanup -all 2>&1",
    );
    for host in &cluster.underlay.hosts {
        host.sh("/opt/bin/flanneld cleanup -all");
        let links = host.sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | tr -d ' ' | sort | xargs");
        assert_eq!(links, "eth0 lo\n", "{}: links left", host.name);
        for (what, command) in [
            (
                "rules",
                "nft list ruleset | grep -i -e cni -e flannel -e 10.244 || true",
            ),
            ("routes", "ip route | grep -F 10.244 || true"),
            ("IPv6 routes", "ip -6 route | grep -F fd00:10:244 || true"),
            ("files", "ls /run/flannel 2>/dev/null || true"),
        ] {
            assert_eq!(host.sh(command), "", "{}: {what} left", host.name);
        }
    }
    step("flanneld cleanup: no device, route, rule or file of flanneld is left on any host");
}
