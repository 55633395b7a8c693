//! ADD and DEL of many pods, 16 at a time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use tests::Host;

use super::chain::BRIDGE;
use crate::{
    contender::{Contender, hosts, pods},
    measure::{Measure, Unit},
};

const AT_ONCE: usize = 16;
const PODS: usize = 96;

/// Pods per second, three times each, interleaved.
pub fn run(contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    let mut add = Measure::new(format!("ADD, {AT_ONCE} at a time"), Unit::PerSecond);
    let mut del = Measure::new(format!("DEL, {AT_ONCE} at a time"), Unit::PerSecond);
    let hosts = hosts(contenders);
    let paths: Vec<_> = hosts.iter().map(|(_, host)| pods(host, PODS)).collect();
    for _ in 0..3 {
        for ((contender, host), paths) in hosts.iter().zip(&paths) {
            add.add(&contender.name, rate(contender, host, "ADD", paths));
            del.add(&contender.name, rate(contender, host, "DEL", paths));
        }
    }
    vec![add, del]
}

fn rate(contender: &Contender, host: &Host, verb: &str, paths: &[String]) -> f64 {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                host.run(|| {
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let id = path.rsplit('/').next().expect("name");
                        contender.call(verb, "bridge", id, path, BRIDGE).timed();
                    }
                });
            });
        }
    });
    paths.len() as f64 / start.elapsed().as_secs_f64()
}
