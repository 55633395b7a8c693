//! What systemd is told: when what is ordered after flanneld may start.

use super::{
    cluster::{Cluster, DUAL, TIMEOUT, V4, get},
    store_away::{kept, reboot},
};
use std::os::unix::net::UnixDatagram;
use tests::{Host, process::eventually, scenario};

/// In place of systemd.
const SOCKET: &str = "/run/notify";
const VARIABLE: [(&str, &str); 1] = [("NOTIFY_SOCKET", SOCKET)];

/// The side of systemd.
struct Systemd {
    socket: UnixDatagram,
    received: String,
}

impl Systemd {
    fn new(host: &Host) -> Systemd {
        let socket = host.run(|| UnixDatagram::bind(SOCKET).expect("socket"));
        socket.set_nonblocking(true).expect("non-blocking");
        Systemd {
            socket,
            received: String::new(),
        }
    }

    /// Everything that was received until now.
    fn received(&mut self) -> &str {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            self.received.push_str(&text);
            self.received.push('\n');
        }
        &self.received
    }

    #[track_caller]
    fn receives(&mut self, text: &str) {
        eventually(&format!("systemd receives {text}"), 2 * TIMEOUT, || {
            self.received().contains(text).then_some(())
        });
    }
}

#[scenario]
fn systemd_is_notified() {
    let mut cluster = Cluster::idle(1, V4);
    let mut systemd = Systemd::new(cluster.host(1));
    cluster.start_with(1, &[], &VARIABLE);
    systemd.receives("READY=1");
    systemd.receives("STATUS=10.244.");
    cluster.stop(1);
    systemd.receives("STOPPING=1");
}

/// The node's own network is what containers need. That its peers are known from old leases only,
/// and that one of them is not reached, is for probes.
#[scenario]
fn rebooted_node_boots_on_while_the_store_is_away() {
    let mut cluster = Cluster::new(2, DUAL);
    kept(cluster.host(2), 2);
    let (subnet, peer) = (cluster.subnet(2), cluster.subnet(1));
    cluster.kill(1);
    cluster.kill(2);
    reboot(cluster.host(2));
    cluster
        .host(2)
        .sh(&format!("ip route add blackhole {peer}"));
    let mut systemd = Systemd::new(cluster.host(2));
    cluster.start_with(2, &[], &VARIABLE);
    systemd.receives("READY=1");
    assert_eq!(cluster.subnet(2), subnet, "subnet.env is there before");
    for device in ["flannel.1", "flannel-v6.1"] {
        cluster.host(2).sh(&format!("ip -br link show {device}"));
    }
    cluster.host(2).sh("nft list table ip flannel-ipv4");
    systemd.receives("blackhole");
    systemd.receives("the leases are old");
    assert!(!cluster.is_ready(2));
    let status = get(cluster.host(2), "/readyz?verbose");
    assert!(
        status.contains("503") && status.contains("blackhole") && status.contains("old"),
        "{status}"
    );
    assert_eq!(systemd.received().matches("READY=1").count(), 1);
}

/// systemd ends such a start after TimeoutStartSec, and tries again.
#[scenario]
fn node_that_never_had_a_lease_waits_for_the_store() {
    let mut cluster = Cluster::idle(2, V4);
    let mut systemd = Systemd::new(cluster.host(2));
    for _ in 0..2 {
        systemd.received.clear();
        cluster.start_with(2, &[], &VARIABLE);
        eventually("the status says why", TIMEOUT, || {
            let text = systemd.received();
            let last = text.lines().rfind(|line| line.starts_with("STATUS="))?;
            (last.starts_with("STATUS=waiting: ") && last.contains("172.31.0.1:8888")).then_some(())
        });
        let status = get(cluster.host(2), "/readyz?verbose");
        assert!(status.contains("waiting: "), "{status}");
        assert!(!systemd.received().contains("READY=1"));
        cluster.stop(2);
        systemd.receives("STOPPING=1");
    }
    cluster.start_with(2, &[], &VARIABLE);
    cluster.start(1, &[]);
    systemd.receives("READY=1");
    assert!(cluster.subnet(2).starts_with("10.244."));
}

/// Messages wait while nobody reads them, and nothing else does.
#[scenario]
fn service_manager_that_takes_no_messages_holds_up_nothing() {
    let mut cluster = Cluster::idle(1, V4);
    let mut systemd = Systemd::new(cluster.host(1));
    fill(cluster.host(1));
    cluster.start_with(1, &[], &VARIABLE);
    cluster.wait_ready(1);
    systemd.receives("READY=1");
    systemd.receives("STATUS=10.244.");
    fill(cluster.host(1));
    cluster.stop(1);
}

/// Sends messages until the socket takes no more.
fn fill(host: &Host) {
    host.run(|| {
        let sender = UnixDatagram::unbound().expect("socket");
        sender.set_nonblocking(true).expect("non-blocking");
        while sender.send_to(b"X=1", SOCKET).is_ok() {}
    });
}
