//! host-local with a store of many reservations.

use crate::{
    contender::{Contender, hosts, rotation},
    measure::{Measure, Unit},
};
use std::{fs, path::Path};
use tests::Host;

const SIZES: &[usize] = &[0, 250, 10_000, 60_000];
const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"bench","type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/8"}]]}}"#;

/// ADD and DEL for each size of the store.
pub(super) fn run(contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    SIZES
        .iter()
        .flat_map(|size| with_reservations(*size, contenders, rounds))
        .collect()
}

fn with_reservations(size: usize, contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let mut add = Measure::new(format!("host-local ADD with {size} reservations"), Unit::Ms);
    let mut del = Measure::new(format!("host-local DEL with {size} reservations"), Unit::Ms);
    let hosts = hosts(contenders);
    for (contender, host) in &hosts {
        fill(host, size);
        // the first call may build an index: it is not measured
        for verb in ["ADD", "DEL"] {
            host.run(|| {
                contender
                    .call(verb, "host-local", "warm", "/none", CONFIG)
                    .timed()
            });
        }
    }
    let rounds = if size > 10_000 {
        rounds.min(5)
    } else {
        rounds.min(20)
    };
    for round in 0..rounds {
        for index in rotation(round, hosts.len()) {
            let (contender, host) = &hosts[index];
            let id = format!("c{round}");
            let time = |verb| {
                host.run(|| {
                    contender
                        .call(verb, "host-local", &id, "/none", CONFIG)
                        .timed()
                })
            };
            add.add_time(&contender.name, time("ADD"));
            del.add_time(&contender.name, time("DEL"));
        }
    }
    vec![add, del]
}

fn fill(host: &Host, size: usize) {
    host.run(|| {
        let store = Path::new("/var/lib/cni/networks/bench");
        fs::create_dir_all(store)?;
        for number in 0..size {
            let n = number + 2;
            fs::write(
                store.join(format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)),
                format!("old{number}\r\neth0"),
            )?;
        }
        let n = size + 1;
        fs::write(
            store.join("last_reserved_ip.0"),
            format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255),
        )
    })
    .expect("fill the store");
}
