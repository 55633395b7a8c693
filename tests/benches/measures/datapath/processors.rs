//! Each host has half of the machine's processors: where the scheduler puts the threads of both
//! would decide otherwise, and it changes its mind from one sample to the next.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Runs `f`, and what it starts, on the processors of the first (0) or the second host (1).
pub(super) fn of_host<T>(index: usize, f: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(THIS).expect("processors");
    sched_setaffinity(THIS, &half(&all, index)).expect("half of the processors");
    let value = f();
    sched_setaffinity(THIS, &all).expect("all processors");
    value
}

/// Every other one; a single one is for both hosts.
fn half(all: &CpuSet, index: usize) -> CpuSet {
    let is_set = |number: &usize| all.is_set(*number).unwrap_or_default();
    let numbers: Vec<_> = (0..CpuSet::count()).filter(is_set).collect();
    let mut half = CpuSet::new();
    for number in numbers.iter().skip(index % numbers.len()).step_by(2) {
        half.set(*number).expect("a processor");
    }
    half
}
