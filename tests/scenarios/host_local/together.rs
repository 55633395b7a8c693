//! One store, used by ours and by Debian's Go plugin.

use super::{GO, OURS, add, address, config, del, host, range, taken};
use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What one of them reserved, the other finds and frees.
pub fn in_turns() {
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
        let first = address(add(&host, OURS, &a, &config));
        let second = address(add(&host, GO, &b, &config));
        assert_ne!(first, second);
        for path in [OURS, GO] {
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
        del(&host, GO, &a, &config).ok();
        del(&host, OURS, &b, &config).ok();
        for path in [OURS, GO] {
            check(path, &a).error();
            check(path, &b).error();
        }
    }
    assert_eq!(taken(&host), [""; 0]);
}

/// Eight at a time, each ADD and each DEL by the one or the other.
pub fn at_once() {
    let host = host();
    let config = config("0.4.0", range("10.77.0.2", "10.77.3.20"));
    let (next, given) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let paths = [OURS, GO];
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
                        // by the one that did not make it, every second time
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
        "what was not freed is reserved, and nothing else"
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
