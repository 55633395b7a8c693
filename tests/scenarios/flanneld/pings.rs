//! Pings from the pod of node 1 to that of node 2, in each family.

use super::cluster::Cluster;
use std::{process::Command, time::Duration};
use tests::Process;

/// Starts one to each address, each 20 ms.
pub(super) fn start(cluster: &Cluster, count: u32) -> Vec<Process> {
    let ping = |ip: &String| {
        let mut command = Command::new("ip");
        let count = count.to_string();
        command.args(["netns", "exec", "pod", "ping", "-n", "-i", "0.02"]);
        command.args(["-W", "2", "-c", &count, ip]);
        cluster.host(1).spawn(command)
    };
    cluster.pod_ips(2).iter().map(ping).collect()
}

/// Waits for their end.
#[track_caller]
pub(super) fn lose_nothing(pings: &mut [Process]) {
    for ping in pings {
        let status = ping.wait(Duration::from_secs(60));
        let log = ping.output();
        assert!(status.success() && log.contains(" 0% packet loss"), "{log}");
    }
}
