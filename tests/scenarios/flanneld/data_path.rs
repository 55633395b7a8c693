//! The process behind a TUN device, of the backend udp and of wireguard in user space.

use super::cluster::{Cluster, TIMEOUT, delete, is_restored_at_once};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{fs, process::Command, thread, time::Duration};
use tests::{Host, binaries::program, process::eventually, subnet_env};

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
/// killed costs those that it had read: the kernel holds the others for the next process, which is
/// there at once. A device that is deleted is there again within a second, also on a busy machine.
#[track_caller]
pub(super) fn outlives_the_daemon(net_conf: &str, device: &str) {
    let mut cluster = Cluster::new(2, net_conf);
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
    let before = process(cluster.host(1), device);
    let name = fs::read_to_string(format!("/proc/{before}/comm"));
    assert_eq!(name.expect("a name"), "flanneld\n");
    let pings = cluster.ping(1, 2);
    cluster.kill_and_start_each();
    pings.lose_nothing();
    assert_eq!(
        process(cluster.host(1), device),
        before,
        "the process goes on"
    );
    let pings = cluster.ping(1, 2);
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("signal");
    pings.lose_at_most(2);
    assert_ne!(process(cluster.host(1), device), before);
    // 20 ms are between two pings
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

/// A process that hangs holds up no pass, not even one that has something to tell it: what somebody
/// deletes is back at once. It is replaced, and the log and the readiness say why.
#[track_caller]
pub(super) fn is_replaced_when_it_hangs(net_conf: &str, device: &str) {
    let mut cluster = Cluster::idle(3, net_conf);
    for node in 1..=3 {
        cluster.start(node, &[]);
    }
    for node in 1..=3 {
        cluster.wait_ready(node);
        cluster.pod(node);
    }
    cluster.eventually_ping_all();
    cluster.kill(3);
    let host = cluster.host(1);
    let before = process(host, device);
    let lease = cluster.subnet(3).replace('/', "-");
    kill(Pid::from_raw(before), Signal::SIGSTOP).expect("signal");
    let path = format!("/v1/_/leases/{lease}");
    let answer = delete(host, "172.31.0.1:8888", &path);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let flush = format!("ip route flush dev {device} proto 70");
    is_back_at_once(host, device, &flush);
    eventually("another process", TIMEOUT, || {
        let pid = status(host, device)?["pid"].as_i64()?;
        (pid != i64::from(before)).then_some(())
    });
    assert!(!is_running(host, before), "it was ended");
    subnet_env::eventually_pings(&subnet_env::made_pod(host), cluster.host(2));
    cluster.wait_ready(1);
    let log = cluster.stop(1);
    let line = "the data path: its process did not answer for 3s; it is started again";
    assert!(log.contains(line), "{log}");
}

/// The device, its addresses and its routes, each within 100 ms (300 ms on a busy machine).
#[track_caller]
pub(super) fn device_is_back_at_once(net_conf: &str, device: &str) {
    let cluster = Cluster::new(2, net_conf);
    let host = cluster.host(1);
    for change in [
        "ip route flush dev DEVICE proto 70",
        "ip addr flush dev DEVICE scope global",
        "ip link set DEVICE mtu 1300",
        "ip link set DEVICE down",
        "ip link del DEVICE",
    ] {
        is_back_at_once(host, device, &change.replace("DEVICE", device));
    }
}

#[track_caller]
fn is_back_at_once(host: &Host, device: &str, change: &str) {
    let show = format!(
        "ip -o addr show dev {device} scope global | sed 's/^[0-9]*: //'; \
         ip -o link show dev {device} up | cut -d' ' -f2; cat /sys/class/net/{device}/mtu; \
         ip route show dev {device} proto 70; ip -6 route show dev {device} proto 70"
    );
    let shown = || String::from_utf8_lossy(&host.try_sh(&show).stdout).into_owned();
    let before = shown();
    is_restored_at_once(host, change, || shown() == before);
}

/// A keeper takes the process over, which then stays when flanneld is of another build. When the
/// keeper's container ends, flanneld starts another one.
#[track_caller]
pub(super) fn is_kept(net_conf: &str, device: &str) {
    let mut cluster = Cluster::new(2, net_conf);
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
    let host = cluster.host(1);
    let first = process(host, device);
    let pings = cluster.ping(1, 2);
    let mut keep = Command::new(program("flanneld"));
    keep.args(["data-path", "-keep", "/run/flannel"]);
    let mut keeper = host.spawn(keep);
    let kept = || status(host, device).filter(|status| status["kept"] == true);
    let kept = eventually("the keeper takes over", TIMEOUT, kept);
    let kept = kept["pid"].as_i64().expect("a pid") as i32;
    pings.lose_at_most(2);
    assert!(!is_running(host, first), "the first one handed over");
    let other = format!("cp {} /run/flanneld", program("flanneld").display());
    host.sh(&other);
    let pings = cluster.ping(1, 2);
    cluster.stop(1);
    cluster.start_program(1, "/run/flanneld");
    cluster.wait_ready(1);
    pings.lose_nothing();
    assert_eq!(process(cluster.host(1), device), kept, "it stays");
    let pings = cluster.ping(1, 2);
    keeper.signal(Signal::SIGTERM);
    assert!(keeper.wait(TIMEOUT).success(), "{}", keeper.output());
    // what the end of its container does
    kill(Pid::from_raw(kept), Signal::SIGKILL).expect("signal");
    pings.lose_at_most(2);
    let host = cluster.host(1);
    let last = process(host, device);
    let executable = host.sh(&format!("readlink /proc/{last}/exe"));
    assert_eq!(executable.trim(), "/run/flanneld");
}
