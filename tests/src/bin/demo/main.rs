//! `make demo`: three hosts in network namespaces, one flanneld on each, two pods on each host; what an operator would
//! look at; everybody talks to everybody; then all of it is taken away again and shown to be gone.

mod capture;
mod keep;
mod look;
mod say;
mod stage;
mod talk;
mod teardown;

use say::{section, step};
use stage::Stage;
use std::time::Instant;

fn main() {
    keep::detach_if_asked();
    tests::sandbox::enter();
    let start = Instant::now();

    section("three hosts on a private underlay, a flanneld on each");
    let mut stage = Stage::build();
    section("two pods on each host, attached by executing the suite as a runtime does");
    stage.attach_pods();
    look::around(&stage);
    section("every pod talks to every other");
    talk::pings(&stage);
    talk::tcp(&stage);
    talk::host_port(&stage);
    talk::encapsulated(&stage);
    if keep::asked() {
        keep::stay(&stage);
    }
    section("all of it is taken away again");
    teardown::pods(&mut stage);
    teardown::daemons(&mut stage);
    teardown::cleanup(&stage);
    step(&format!(
        "done in {:.1} s: nothing of it is left on this machine",
        start.elapsed().as_secs_f32()
    ));
}
