//! `make demo`: three hosts in network namespaces with a flanneld and two pods each. Prints their
//! state, checks the traffic between all pods, removes everything, and checks that nothing is left.

mod capture;
mod cluster;
mod detach;
mod inspect;
mod print;
mod teardown;
mod traffic;

use cluster::Cluster;
use print::{section, step};
use std::time::Instant;

fn main() {
    detach::detach_if_requested();
    tests::sandbox::enter();
    let start = Instant::now();

    section("three hosts on a private underlay, a flanneld on each");
    let mut cluster = Cluster::build();
    section("two pods on each host, attached by executing the suite as a runtime does");
    cluster.attach_pods();
    inspect::hosts(&cluster);
    section("every pod talks to every other");
    traffic::pings(&cluster);
    traffic::tcp(&cluster);
    traffic::host_port(&cluster);
    traffic::encapsulated(&cluster);
    if detach::requested() {
        detach::stay(&cluster);
    }
    section("pods, daemons and their network are removed");
    teardown::pods(&mut cluster);
    teardown::daemons(&mut cluster);
    teardown::cleanup(&cluster);
    step(&format!(
        "done in {:.1} s: nothing is left on this machine",
        start.elapsed().as_secs_f32()
    ));
}
