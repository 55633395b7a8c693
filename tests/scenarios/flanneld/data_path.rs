//! The process behind a TUN device, of the backend udp and of wireguard in user space.

use super::cluster::{Cluster, TIMEOUT};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{thread, time::Duration};
use tests::{Host, binaries::program, process::eventually};

pub(super) fn socket(device: &str) -> String {
    format!("/run/flannel/data-path-{device}.sock")
}

/// What the process says of itself.
pub(super) fn status(host: &Host, device: &str) -> Option<Value> {
    let (program, socket) = (program("flanneld"), socket(device));
    let show = format!("{} data-path -socket {socket} -status", program.display());
    serde_json::from_slice(&host.try_sh(&show).stdout).ok()
}

/// Its id, once it answers.
#[track_caller]
pub(super) fn process(host: &Host, device: &str) -> i32 {
    let status = eventually("the process answers", TIMEOUT, || status(host, device));
    status["pid"].as_i64().expect("a pid") as i32
}

/// True if the process is there, and no zombie.
pub(super) fn is_running(host: &Host, pid: i32) -> bool {
    let executable = format!("readlink /proc/{pid}/exe");
    host.try_sh(&executable).status.success()
}

/// The clean-up of a node without a daemon ends the process and removes its socket.
#[track_caller]
pub(super) fn cleanup_ends_it(host: &Host, device: &str, pid: i32) {
    let cleanup = format!("{} cleanup -yes", program("flanneld").display());
    host.sh("ip link del cni0");
    host.sh(&cleanup);
    let socket = format!("test -e {}", socket(device));
    eventually("the process ends with its device", TIMEOUT, || {
        let gone = host.try_sh(&socket).status.code() == Some(1);
        (gone && !is_running(host, pid)).then_some(())
    });
}

/// Neither a daemon that is killed nor one that starts again costs a packet. A process that is
/// killed is there again within a second, and so is a device that is deleted.
#[track_caller]
pub(super) fn outlives_the_daemon(net_conf: &str, device: &str) {
    let mut cluster = Cluster::new(2, net_conf);
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
    let before = process(cluster.host(1), device);
    let pings = cluster.ping(1, 2);
    cluster.kill_and_start_each();
    pings.lose_nothing();
    assert_eq!(
        process(cluster.host(1), device),
        before,
        "the process goes on"
    );
    // 20 ms are between two pings; a machine that does other work starts a process slowly
    let pings = cluster.ping(1, 2);
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("signal");
    pings.lose_at_most(50);
    assert_ne!(process(cluster.host(1), device), before);
    let pings = cluster.ping(1, 2);
    thread::sleep(Duration::from_millis(300));
    cluster.host(1).sh(&format!("ip link del {device}"));
    pings.lose_at_most(50);
}

/// The process has the packets of the device that it opened, whatever its name is: another one with
/// that name would have none. Without a daemon, packets go on by the renamed one.
#[track_caller]
pub(super) fn renamed_device_works_again(net_conf: &str, device: &str) {
    let mut cluster = Cluster::new(2, net_conf);
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
    // flanneld sets the device up, and a kernel before 6.2 renames none that is up
    let rename =
        format!("until ip link set {device} down && ip link set {device} name other0; do :; done");
    let is_gone = |cluster: &Cluster| {
        let links = cluster.host(1).sh("ip -o link");
        assert!(!links.contains("other0"), "{links}");
    };
    let before = process(cluster.host(1), device);
    let pings = cluster.ping(1, 2);
    cluster.host(1).sh(&rename);
    pings.lose_at_most(50);
    assert_eq!(process(cluster.host(1), device), before);
    is_gone(&cluster);
    cluster.stop(1);
    cluster.host(1).sh(&rename);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    cluster.ping(1, 2).lose_nothing();
    is_gone(&cluster);
}
