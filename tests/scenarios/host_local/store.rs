//! The verbs with different states of the store.

use super::{STORE, SUITE, add, address, config, del, host, range, taken};
use serde_json::{Value, json};
use tests::{Cni, Host, Outcome, scenario};

fn status_of(host: &Host, config: &str) -> Outcome {
    Cni::new(SUITE, "", "").call(host, "STATUS", "host-local", config)
}

#[scenario]
fn exhausted_range_fails_add_and_status() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.3"));
    for id in ["a", "b"] {
        add(&host, SUITE, id, &config).ok();
    }
    let message = "no IP addresses available in range set: 10.77.0.2-10.77.0.3";
    assert_eq!(
        add(&host, SUITE, "c", &config).error(),
        (999, format!("failed to allocate for range 0: {message}"))
    );
    // a full node runs its pods: it is unavailable only where the configuration asks for that
    let warning = status_of(&host, &config).ok().stderr;
    assert!(warning.contains(message), "{warning}");
    let strict = config.replace("\"ranges\"", "\"notAvailableWhenFull\":true,\"ranges\"");
    assert_ne!(strict, config);
    assert_eq!(status_of(&host, &strict).error(), (50, message.to_owned()));
    del(&host, SUITE, "a", &config).ok();
    status_of(&host, &strict).ok();
    assert_eq!(status_of(&host, &config).ok().stderr, "");
    assert_eq!(address(add(&host, SUITE, "c", &config)), "10.77.0.2");
}

#[scenario]
fn empty_files_are_reclaimed_and_foreign_files_stay() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.4"));
    host.sh(&format!(
        "mkdir -p {STORE} && cd {STORE} && touch 10.77.0.2 && head -c 20 /dev/zero > 10.77.0.3 && echo '{{}}' > 10.77.0.4"
    ));
    status_of(&host, &config).ok();
    let first = add(&host, SUITE, "a", &config).ok();
    assert!(
        first.stderr.contains("freed 10.77.0.2: its file was empty"),
        "{}",
        first.stderr
    );
    add(&host, SUITE, "b", &config).ok();
    assert_eq!(add(&host, SUITE, "c", &config).error().0, 999);
    assert_eq!(
        host.sh(&format!("cat {STORE}/10.77.0.4")),
        "{}\n",
        "a foreign file stays"
    );
    // also for a requested address
    host.sh(&format!("touch {STORE}/10.77.0.9"));
    let config = super::config("1.1.0", range("10.77.0.2", "10.77.0.9"));
    let cni = Cni::new(SUITE, "d", "/none").with("CNI_ARGS", "IP=10.77.0.9");
    assert_eq!(
        address(cni.call(&host, "ADD", "host-local", &config)),
        "10.77.0.9"
    );
}

#[scenario]
fn del_needs_no_valid_ranges() {
    let host = host();
    let good = config("0.3.1", range("10.77.0.2", "10.77.0.9"));
    let in_folder =
        json!({"type": "host-local", "dataDir": "/run/other", "subnet": "10.78.0.0/24"});
    let in_folder = config("0.3.1", in_folder);
    for broken in [
        json!({"type": "host-local"}),
        json!({"type": "host-local", "ranges": []}),
        json!({"type": "host-local", "ranges": [[{"subnet": "10.9.0.1/24"}]]}),
        json!({"type": "host-local", "ranges": "gone", "subnet": 5}),
        json!({"type": "host-local", "routes": [{"dst": "x"}]}),
    ] {
        add(&host, SUITE, "c", &good).ok();
        del(&host, SUITE, "c", &config("0.3.1", broken)).ok();
        assert_eq!(taken(&host), [""; 0]);
        del(&host, SUITE, "c", &good).ok();
    }
    add(&host, SUITE, "c", &in_folder).ok();
    assert_eq!(host.sh("cat /run/other/n/10.78.0.2"), "c\r\neth0");
    del(&host, SUITE, "c", &in_folder).ok();
    host.sh("! test -e /run/other/n/10.78.0.2");
    // DEL does not create a missing store
    let nowhere = config(
        "0.3.1",
        json!({"type": "host-local", "dataDir": "/run/nowhere"}),
    );
    del(&host, SUITE, "c", &nowhere).ok();
    host.sh("! test -e /run/nowhere");
}

fn gc_with(host: &Host, valid: Option<Value>) {
    let mut config: Value =
        serde_json::from_str(&config("1.1.0", range("10.77.0.2", "10.77.0.9"))).expect("JSON");
    if let Some(valid) = valid {
        config["cni.dev/valid-attachments"] = valid;
    }
    let gc = Cni::new(SUITE, "", "").call(host, "GC", "host-local", &config.to_string());
    assert_eq!(gc.ok().stdout, "");
}

#[scenario]
fn gc_removes_stale_and_empty_files() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.9"));
    for id in ["a", "b", "c"] {
        add(&host, SUITE, id, &config).ok();
    }
    Cni::new(SUITE, "a", "/none")
        .with("CNI_IFNAME", "net1")
        .call(&host, "ADD", "host-local", &config)
        .ok();
    host.sh(&format!(
        "cd {STORE} && printf b > 10.77.0.100 && printf x > 10.77.0.101 && touch 10.77.0.102 && echo '{{}}' > 10.77.0.103 && echo note > README"
    ));
    gc_with(&host, None);
    assert_eq!(taken(&host).len(), 8, "without the key, GC removes nothing");
    gc_with(
        &host,
        Some(
            json!([{"containerID": "a", "ifname": "net1"}, {"containerID": "b", "ifname": "eth0"}]),
        ),
    );
    let left = host.sh(&format!("ls {STORE}"));
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>(),
        [
            "10.77.0.100",
            "10.77.0.103",
            "10.77.0.3",
            "10.77.0.5",
            "README",
            "last_reserved_ip.0",
            "lock"
        ]
    );
    gc_with(&host, Some(json!([])));
    let left = host.sh(&format!("ls {STORE}"));
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>(),
        ["10.77.0.103", "README", "last_reserved_ip.0", "lock"]
    );
}

/// Files from before 0.8 name the container but no interface.
#[scenario]
fn legacy_files_belong_to_all_interfaces_of_the_container() {
    let host = host();
    let config = config("0.4.0", range("10.77.0.2", "10.77.0.9"));
    host.sh(&format!(
        "mkdir -p {STORE} && cd {STORE} && printf old > 10.77.0.2 && echo other > 10.77.0.3"
    ));
    let again = add(&host, SUITE, "old", &config).error().1;
    assert!(
        again.contains("10.77.0.2 has been allocated to old"),
        "{again}"
    );
    del(&host, SUITE, "old", &config).ok();
    assert_eq!(taken(&host), ["10.77.0.3"]);
    del(&host, SUITE, "other", &config).ok();
    // as upstream: the file that names the interface first
    host.sh(&format!(
        "cd {STORE} && printf c > 10.77.0.4 && printf 'c\\r\\neth0' > 10.77.0.5"
    ));
    del(&host, SUITE, "c", &config).ok();
    assert_eq!(taken(&host), ["10.77.0.4"]);
    del(&host, SUITE, "c", &config).ok();
    assert_eq!(taken(&host), [""; 0]);
}

#[scenario]
fn status_checks_configuration_and_write_access() {
    let host = host();
    let good = config("1.1.0", range("10.77.0.2", "10.77.0.9"));
    status_of(&host, &good).ok();
    host.sh("! test -e /var/lib/cni/networks/n");
    assert_eq!(
        status_of(&host, &config("1.1.0", json!({"type": "host-local"})))
            .error()
            .1,
        "no IP ranges specified"
    );
    host.sh("mkdir -p /run/ro && mount -t tmpfs -o ro none /run/ro");
    let read_only =
        json!({"type": "host-local", "dataDir": "/run/ro/net", "subnet": "10.78.0.0/24"});
    assert_eq!(
        status_of(&host, &config("1.1.0", read_only)).error(),
        (50, "write to /run/ro: read-only file system".to_owned())
    );
}
