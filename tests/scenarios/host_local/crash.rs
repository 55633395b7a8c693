//! kill -9 in the middle of ADDs.

use super::{OURS, STORE, add, address, config, del, host, range, taken};
use std::{
    collections::HashMap,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Whatever moment it hits, a reservation is whole or absent, DEL removes it, and the store goes on working.
pub fn killed() {
    let host = host();
    let config = config("1.0.0", range("10.77.0.2", "10.77.7.250"));
    add(&host, OURS, "first", &config).ok();
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
        "no call came far enough to be of interest"
    );
    let files = host.sh(&format!("ls {STORE}"));
    let strangers: Vec<_> = files
        .lines()
        .filter(|name| !name.starts_with("10.77."))
        .collect();
    assert_eq!(strangers, ["last_reserved_ip.0", "lock"]);
    let next = address(add(&host, OURS, "next", &config));
    assert!(!owners.values().any(|ip| *ip == next));
    for id in owners.keys().map(String::as_str).chain(["next"]) {
        del(&host, OURS, id, &config).ok();
    }
    assert_eq!(taken(&host), [""; 0]);
}

fn start(id: &str, config: &str) -> std::process::Child {
    let mut child = Command::new(format!("{OURS}/host-local"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/none"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", OURS),
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
