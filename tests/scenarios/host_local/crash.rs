//! SIGKILL during ADD.

use super::{STORE, SUITE, add, address, config, del, host, range, taken};
use std::{
    collections::HashMap,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tests::scenario;

/// DEL removes each reservation, and the store still works.
#[scenario]
fn reservation_of_a_killed_add_is_complete_or_absent() {
    let host = host();
    let config = config("1.0.0", range("10.77.0.2", "10.77.7.250"));
    add(&host, SUITE, "first", &config).ok();
    host.run(|| {
        for round in 0..40u64 {
            let calls: Vec<_> = (0..4)
                .map(|number| start(&format!("r{round}-{number}"), &config))
                .collect();
            thread::sleep(Duration::from_micros(300 + round * 150));
            for mut call in calls {
                call.kill().expect("kill");
                call.wait().expect("wait");
            }
        }
    });
    let mut owners: HashMap<String, String> = HashMap::new();
    for ip in taken(&host) {
        let owner = host.sh(&format!("cat {STORE}/{ip}"));
        let id = owner
            .strip_suffix("\r\neth0")
            .unwrap_or_else(|| panic!("{ip} holds {owner:?}"));
        assert!(
            owners.insert(id.to_owned(), ip).is_none(),
            "{id} has two addresses"
        );
    }
    assert!(
        owners.len() > 1,
        "all calls were killed before their reservation"
    );
    let files = host.sh(&format!("ls {STORE}"));
    let others: Vec<_> = files
        .lines()
        .filter(|name| !name.starts_with("10.77."))
        .collect();
    assert_eq!(others, ["last_reserved_ip.0", "lock"]);
    let next = address(add(&host, SUITE, "next", &config));
    assert!(!owners.values().any(|ip| *ip == next));
    for id in owners.keys().map(String::as_str).chain(["next"]) {
        del(&host, SUITE, id, &config).ok();
    }
    assert_eq!(taken(&host), [""; 0]);
}

fn start(id: &str, config: &str) -> std::process::Child {
    let mut child = Command::new(format!("{SUITE}/host-local"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/none"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", SUITE),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(config.as_bytes())
        .expect("config");
    child
}
