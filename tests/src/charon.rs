//! charon, strongSwan's daemon for key exchange, on hosts of scenarios, and what it leads to on the
//! wire: encrypted packets.

use crate::Host;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::path::Path;

/// Where our flanneld's charon keeps its process id.
const PID_FILE: &str = "/run/flannel/charon/charon.pid";

/// The reason to skip where charon is missing.
pub fn without_charon() -> Option<String> {
    let found = Path::new("/usr/lib/ipsec/charon").exists();
    (!found).then(|| "no charon: apt install strongswan-charon".to_owned())
}

/// The process that our flanneld started on a host, if it runs.
pub fn pid(host: &Host) -> Option<Pid> {
    let pid = host.try_sh(&format!("cat {PID_FILE}"));
    let pid = String::from_utf8_lossy(&pid.stdout).trim().parse().ok()?;
    let is_charon = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()? == "charon\n";
    is_charon.then(|| Pid::from_raw(pid))
}

/// Ends the charon of each of these hosts when it is dropped: it outlives flanneld.
pub struct EndCharon(Vec<Host>);

impl EndCharon {
    pub fn of(hosts: &[Host]) -> EndCharon {
        EndCharon(hosts.iter().map(Host::handle).collect())
    }
}

impl Drop for EndCharon {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(pid) {
            // it may have ended by itself
            kill(pid, Signal::SIGKILL).ok();
        }
    }
}

/// Packets that a host sent encrypted, by all security associations that it has.
pub fn encrypted(host: &Host) -> u64 {
    let states = host.sh("ip -s xfrm state");
    let packets = states.split("lifetime current:").skip(1).map(|state| {
        let count = state.split('(').next().unwrap_or_default();
        let packets = count.split(',').next_back().unwrap_or_default();
        packets.trim().parse::<u64>().unwrap_or_default()
    });
    packets.sum()
}

/// Counts what arrives at a host.
pub struct Wire<'a>(&'a Host);

impl Wire<'_> {
    /// Counts from now on.
    #[track_caller]
    pub fn watch(host: &Host) -> Wire<'_> {
        for (what, matches) in [
            ("encrypted", "-p 50"),
            ("encrypted_in_udp", "-p udp --dport 4500"),
            (
                "clear_text",
                "-s 10.244.0.0/16 -m policy --dir in --pol none",
            ),
        ] {
            host.sh(&format!(
                "iptables -t mangle -A PREROUTING -i eth0 {matches} -m comment --comment {what}"
            ));
        }
        Wire(host)
    }

    /// Packets of that kind until now: `encrypted`, `encrypted_in_udp` or `clear_text`.
    #[track_caller]
    pub fn packets(&self, kind: &str) -> u64 {
        let text = self.0.sh("iptables -t mangle -nvxL PREROUTING");
        let comment = format!("/* {kind} */");
        let line = text.lines().find(|line| line.contains(&comment));
        let count = line.and_then(|line| line.split_whitespace().next());
        let count = count.and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("{text}"))
    }
}
