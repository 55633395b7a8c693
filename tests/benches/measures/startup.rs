//! Start-up: the time of VERSION.

use crate::{
    contender::{Call, Contender, hosts, rotation},
    measure::{Measure, Unit},
};

/// VERSION of bridge, and the start of a small static program for comparison.
pub(super) fn run(contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let mut measure = Measure::new("start-up: VERSION of bridge", Unit::Ms);
    let hosts = hosts(contenders);
    for round in 0..rounds * 5 {
        for index in rotation(round, hosts.len()) {
            let (contender, host) = &hosts[index];
            let call = contender.call("VERSION", "bridge", "", "", "");
            measure.add_time(&contender.name, host.run(|| call.timed()));
        }
        let mut command = std::process::Command::new("/bin/busybox");
        command.arg("true");
        let bare = Call {
            command,
            config: String::new(),
        };
        measure.add_time("busybox true (static)", hosts[0].1.run(|| bare.timed()));
    }
    vec![measure]
}
