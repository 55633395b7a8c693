//! ADD and DEL of many pods, 16 at a time.

use super::{bare, chain::BRIDGE};
use crate::{
    contender::{Contender, hosts, pods},
    measure::{Measure, Unit},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use tests::Host;

const AT_ONCE: usize = 16;
const PODS: usize = 96;

/// Pods per second, three times each, interleaved.
pub(super) fn run(contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    let mut add = Measure::new(format!("ADD, {AT_ONCE} at a time"), Unit::PerSecond);
    let mut del = Measure::new(format!("DEL, {AT_ONCE} at a time"), Unit::PerSecond);
    let hosts = hosts(contenders);
    let paths: Vec<_> = hosts.iter().map(|(_, host)| pods(host, PODS)).collect();
    let bare_host = Host::new("bare");
    let bridge = bare_host.run(bare::bridge);
    let bare_paths = pods(&bare_host, PODS);
    for _ in 0..3 {
        for ((contender, host), paths) in hosts.iter().zip(&paths) {
            add.add(&contender.name, rate(contender, host, "ADD", paths));
            del.add(&contender.name, rate(contender, host, "DEL", paths));
        }
        let attach = |path: &str, number| bare::attach(bridge, path, number);
        add.add("bare requests", at_once(&bare_host, &bare_paths, attach));
        let detach = |path: &str, _| bare::detach(path);
        del.add("bare requests", at_once(&bare_host, &bare_paths, detach));
    }
    vec![add, del]
}

fn rate(contender: &Contender, host: &Host, verb: &str, paths: &[String]) -> f64 {
    at_once(host, paths, |path, _| {
        let id = path.rsplit('/').next().expect("name");
        contender.call(verb, "bridge", id, path, BRIDGE).timed()
    })
}

/// Namespaces per second when [`AT_ONCE`] threads on the host call `f`.
fn at_once(host: &Host, paths: &[String], f: impl Fn(&str, usize) -> Duration + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                host.run(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(path) = paths.get(number) else { break };
                        f(path, number);
                    }
                });
            });
        }
    });
    paths.len() as f64 / start.elapsed().as_secs_f64()
}
