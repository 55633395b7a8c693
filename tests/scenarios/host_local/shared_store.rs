//! One store, used by the suite and by Debian's Go plugin.

use super::{SUITE, UPSTREAM, add, address, config, del, host, range, taken};
use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tests::scenario;

#[scenario]
fn each_plugin_finds_and_releases_the_others_reservations() {
    let host = host();
    let config = config("0.4.0", range("10.77.0.2", "10.77.0.20"));
    let check = |path: &str, id: &str| {
        let conf: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        let mut conf = conf;
        conf["prevResult"] = serde_json::json!({"cniVersion": "0.4.0"});
        tests::Cni::new(path, id, "/none").call(&host, "CHECK", "host-local", &conf.to_string())
    };
    for round in 0..4 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let first = address(add(&host, SUITE, &a, &config));
        let second = address(add(&host, UPSTREAM, &b, &config));
        assert_ne!(first, second);
        for path in [SUITE, UPSTREAM] {
            check(path, &a).ok();
            check(path, &b).ok();
            let again = [&a, &b].map(|id| add(&host, path, id, &config).error().1);
            assert!(
                again
                    .iter()
                    .all(|message| message.contains("duplicate allocation is not allowed")),
                "{again:?}"
            );
        }
        del(&host, UPSTREAM, &a, &config).ok();
        del(&host, SUITE, &b, &config).ok();
        for path in [SUITE, UPSTREAM] {
            check(path, &a).error();
            check(path, &b).error();
        }
    }
    assert_eq!(taken(&host), [""; 0]);
}

/// Eight calls at a time, alternately of the suite and of upstream's plugin.
#[scenario]
fn concurrent_calls_of_both_plugins_reserve_distinct_addresses() {
    let host = host();
    let config = config("0.4.0", range("10.77.0.2", "10.77.3.20"));
    let (next, given) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let paths = [SUITE, UPSTREAM];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 96 {
                        return;
                    }
                    let id = format!("c{number}");
                    let ip = address(add(&host, paths[number % 2], &id, &config));
                    if number % 4 < 2 {
                        // every second time by the plugin that did not reserve it
                        del(&host, paths[number / 4 % 2], &id, &config).ok();
                    } else {
                        given.lock().expect("lock").push(ip);
                    }
                }
            });
        }
    });
    let mut given = given.into_inner().expect("lock");
    let distinct: HashSet<_> = given.iter().cloned().collect();
    assert_eq!(distinct.len(), given.len(), "no address twice: {given:?}");
    let mut left = taken(&host);
    left.sort();
    given.sort();
    assert_eq!(
        left, given,
        "exactly the addresses that were not released are reserved"
    );
    for number in (0..96).filter(|number| number % 4 >= 2) {
        del(
            &host,
            paths[(number / 4) % 2],
            &format!("c{number}"),
            &config,
        )
        .ok();
    }
    assert_eq!(taken(&host), [""; 0]);
}
