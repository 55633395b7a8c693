//! What a running process takes.

use std::{fs, time::Duration};

/// The most memory that it had so far (VmHWM of /proc/PID/status), in KiB.
#[track_caller]
pub fn peak_memory(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// The same without the pages of its file, in KiB: those of a debug build are 25 MiB.
#[track_caller]
pub fn peak_own_memory(pid: u32) -> u64 {
    peak_memory(pid).saturating_sub(status(pid, "RssFile:"))
}

#[track_caller]
fn status(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    value.expect(key).trim().parse().expect("a number")
}

/// User and system time so far, with its threads that ended.
#[track_caller]
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("ticks");
    // a tick is 10 ms
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
