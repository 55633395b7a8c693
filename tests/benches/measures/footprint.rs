//! Measures that do not depend on the machine's speed: memory, processes, system calls, size.

use super::chain::BRIDGE;
use crate::{
    contender::{Call, Contender, hosts, pods},
    measure::{Measure, Unit},
};
use std::{fs, process::Command};
use tests::Host;

/// One ADD each, and the size on disk.
pub(super) fn run(contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    let mut memory = Measure::new("peak memory of bridge, one ADD", Unit::Kb);
    let mut processes = Measure::new("processes of one ADD (bridge -> host-local)", Unit::Count);
    let mut calls = Measure::new(
        "system calls of one ADD (bridge -> host-local)",
        Unit::Count,
    );
    let mut size = Measure::new("suite on disk", Unit::Kb);
    for (contender, host) in &hosts(contenders) {
        let paths = pods(host, 3);
        memory.add(&contender.name, peak_memory(contender, host, &paths));
        let (executed, made) = traced(contender, host, &paths[2]);
        processes.add(&contender.name, executed);
        calls.add(&contender.name, made);
        size.add(&contender.name, on_disk(contender));
    }
    vec![memory, processes, calls, size]
}

/// The peak memory of bridge in kB, as its parent sees it; the parent uses less.
fn peak_memory(contender: &Contender, host: &Host, paths: &[String]) -> f64 {
    let mut peak = 0.0;
    for (number, path) in paths[..2].iter().enumerate() {
        let call = contender.call("ADD", "bridge", &format!("m{number}"), path, BRIDGE);
        let wrapped = wrap(
            call,
            "/bin/busybox",
            &["time", "-f", "%M", "-o", "/run/memory"],
        );
        host.run(|| wrapped.timed());
        let text = host.sh("tail -n 1 /run/memory");
        // busybox takes the kernel's kB for pages of 4 kB
        peak = text.trim().parse::<f64>().expect("a number") / 4.0;
    }
    peak
}

fn traced(contender: &Contender, host: &Host, path: &str) -> (f64, f64) {
    let call = contender.call("ADD", "bridge", "traced", path, BRIDGE);
    let wrapped = wrap(call, "/usr/bin/strace", &["-f", "-qq", "-o", "/run/trace"]);
    host.run(|| wrapped.timed());
    let trace = host.sh("cat /run/trace");
    let executed = trace
        .lines()
        .filter(|line| line.contains("execve") && line.ends_with("= 0"))
        .count();
    let made = trace
        .lines()
        .filter(|line| line.contains('(') && !line.contains("resumed>"))
        .count();
    (executed as f64, made as f64)
}

fn wrap(call: Call, program: &str, arguments: &[&str]) -> Call {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(call.command.get_program())
        .env_clear();
    command.envs(
        call.command
            .get_envs()
            .filter_map(|(key, value)| value.map(|value| (key, value))),
    );
    Call {
        command,
        config: call.config,
    }
}

/// Size of the plugins that ours replaces, in kB; links count once.
fn on_disk(contender: &Contender) -> f64 {
    let mut files: Vec<_> = tests::binaries::PLUGINS
        .iter()
        .filter_map(|name| fs::canonicalize(contender.program(name)).ok())
        .collect();
    files.sort();
    files.dedup();
    files
        .iter()
        .map(|file| fs::metadata(file).expect("size").len() as f64 / 1e3)
        .sum()
}
