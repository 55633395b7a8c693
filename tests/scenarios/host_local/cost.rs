//! The cost of ADD and DEL with many reservations.

use super::{STORE, SUITE, add, config, del, host};
use serde_json::json;
use std::fs;
use tests::{
    Cni, Host, scenario,
    trace::{TRACED, trace_plugin},
};

/// System calls of one verb.
struct Cost {
    calls: usize,
    /// getdents
    listings: usize,
    /// In bytes.
    read: u64,
}

#[scenario]
fn cost_does_not_depend_on_the_number_of_reservations() {
    let config = config(
        "1.0.0",
        json!({"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/8"}]]}),
    );
    let [few, many] = [0, 60_000].map(|size| {
        let host = host();
        fill(&host, size);
        // the first call reads the reservations of upstream's plugin
        add(&host, SUITE, "warm", &config).ok();
        del(&host, SUITE, "warm", &config).ok();
        ["ADD", "DEL"].map(|verb| cost(&host, verb, &config))
    });
    for (few, many) in few.iter().zip(&many) {
        assert_eq!(many.listings, 0, "the folder is not listed");
        // a longer file of the index takes more reads and memory
        assert!(
            many.calls <= few.calls + 16,
            "{} and {} system calls",
            few.calls,
            many.calls
        );
        assert!(
            many.read <= few.read + 64 * 1024,
            "{} and {} bytes",
            few.read,
            many.read
        );
        assert!(few.calls < 150, "{} system calls", few.calls);
    }
}

fn cost(host: &Host, verb: &str, config: &str) -> Cost {
    trace_plugin(host, "host-local", "");
    Cni::new(TRACED, "one", "/none")
        .call(host, verb, "host-local", config)
        .ok();
    let trace = host.sh("cat /run/trace");
    let read = trace
        .lines()
        .filter(|line| line.contains(" read("))
        .filter_map(|line| line.rsplit("= ").next()?.parse::<u64>().ok());
    Cost {
        calls: trace.lines().count(),
        listings: trace.matches("getdents").count(),
        read: read.sum(),
    }
}

fn fill(host: &Host, size: usize) {
    host.run(|| {
        fs::create_dir_all(STORE)?;
        for number in 2..size + 2 {
            let ip = format!(
                "10.{}.{}.{}",
                number >> 16,
                (number >> 8) & 255,
                number & 255
            );
            fs::write(format!("{STORE}/{ip}"), format!("old{number}\r\neth0"))?;
        }
        let last = size + 1;
        fs::write(
            format!("{STORE}/last_reserved_ip.0"),
            format!("10.{}.{}.{}", last >> 16, (last >> 8) & 255, last & 255),
        )
    })
    .expect("fill the store");
}
