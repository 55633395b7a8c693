//! An area: scenarios that run in one virtual machine.

use crate::{console::Console, machine};
use std::{env, time::Instant};
use tests::{Case, case, scenarios};

/// Deadlines of scenarios are this many times longer: software emulation is 4-5 times slower.
const DEADLINE_FACTOR: u32 = 8;

/// Filters are parts of scenarios' names; `!` excludes. The time limits are about three times what
/// the area needs with two processors that do nothing else.
const AREAS: &[Area] = &[
    Area {
        name: "vlan",
        // besides, what this machine's kernel notifies otherwise
        filters: &["vlan", "linux_net/monitor_sees"],
        threads: 4,
        seconds: 600,
    },
    Area {
        name: "ipip",
        filters: &["ipip", "!netem/", "!change_from"],
        threads: 4,
        seconds: 900,
    },
    Area {
        name: "wireguard",
        // what runs in user space says nothing about the machine's kernel
        filters: &["flanneld/wireguard", "linux_net/wireguard"],
        threads: 4,
        seconds: 900,
    },
    Area {
        name: "wireguard-peers",
        filters: &[
            "with_wireguard",
            "by_wireguard",
            "etcd/wireguard",
            "user_space_wireguard_and_the_kernels",
            "engine/the_kernel",
        ],
        threads: 4,
        seconds: 900,
    },
    Area {
        name: "ipsec",
        filters: &["ipsec", "!netem/", "!change_from"],
        threads: 4,
        seconds: 1500,
    },
    Area {
        name: "changes",
        filters: &[
            "change_from_ipip",
            "change_from_wireguard",
            "change_from_ipsec",
            "_to_ipip_",
            "_to_wireguard_",
            "_to_ipsec_",
        ],
        // a machine that has too much to do loses packets
        threads: 2,
        seconds: 1800,
    },
    Area {
        name: "clock",
        filters: &["flanneld/clock"],
        // they set the clock of the machine
        threads: 1,
        seconds: 600,
    },
    Area {
        name: "netem",
        filters: &["netem/"],
        threads: 4,
        seconds: 1800,
    },
];

#[scenarios(unless = machine::missing)]
fn areas() -> Vec<Case> {
    let areas = AREAS.iter();
    areas.map(|area| case(area.name, || area.run())).collect()
}

/// Scenarios that one virtual machine runs.
struct Area {
    /// The name of the test.
    name: &'static str,
    /// Scenarios run whose name contains one of them, and none of those that begin with `!`.
    filters: &'static [&'static str],
    /// How many scenarios run at once.
    threads: usize,
    /// After this time the machine is stopped, in seconds.
    seconds: u32,
}

impl Area {
    /// Runs the scenarios. Panics with the console's end unless at least one ran and all passed.
    fn run(&self) {
        let filters = env::var("VM_SCENARIOS").unwrap_or_else(|_| self.filters.join(","));
        let repeat = match env::var("VM_REPEAT") {
            Ok(number) => number.parse().expect("VM_REPEAT is a number"),
            Err(_) => 1,
        };
        let start = Instant::now();
        let console = machine::run(
            self.name,
            self.seconds,
            &script(&filters, self.threads, repeat),
        );
        let elapsed = start.elapsed().as_secs();
        let results = console.results();
        println!(
            "\n  area {} in the virtual machine: {results} ({elapsed} s, console {})",
            self.name,
            console.path.display()
        );
        for line in console.outcomes() {
            println!("  {line}");
        }
        assert!(
            console.succeeded() && results.failed == 0,
            "{}",
            self.failure(&console, "failed")
        );
        assert!(
            results.passed > 0,
            "{}",
            self.failure(&console, "no scenario ran")
        );
    }

    fn failure(&self, console: &Console, what: &str) -> String {
        format!(
            "area {}: {what}; the end of {}:\n{}",
            self.name,
            console.path.display(),
            console.end()
        )
    }
}

/// What /init runs once the modules are loaded: it ends with the first failure's exit code.
fn script(filters: &str, threads: usize, repeat: u32) -> String {
    format!(
        "export DEADLINE_FACTOR={DEADLINE_FACTOR} IN_VIRTUAL_MACHINE=1\n\
         for round in $(seq {repeat}); do\n\
         /bin/scenarios --color never --test-threads {threads} '{filters}' || {{ failed=1; break; }}\n\
         done\n\
         [ -z \"$failed\" ]\n"
    )
}
