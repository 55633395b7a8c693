//! Reservations that a failed ADD, a lost DEL or a reboot left behind come back into use, and never a live pod's.

use super::{GO, OURS, STORE, add, address, config, host, range, taken};
use std::{process::Command, thread};
use tests::{Cni, Host};

/// ADD for a pod that has a namespace.
fn add_in(host: &Host, id: &str, netns: &str, config: &str) -> tests::Outcome {
    Cni::new(OURS, id, netns).call(host, "ADD", "host-local", config)
}

/// The runtime asks again after an ADD that failed half-way, without a DEL in between.
pub fn add_again() {
    let host = host();
    let config = config("1.0.0", range("10.77.0.2", "10.77.0.9"));
    let pod = host.pod("p");
    assert_eq!(
        address(add_in(&host, "c", &pod.path(), &config)),
        "10.77.0.2"
    );
    assert_eq!(
        address(add_in(&host, "c", &pod.path(), &config)),
        "10.77.0.2"
    );
    let asking = Cni::new(OURS, "c", &pod.path()).with("CNI_ARGS", "IP=10.77.0.2");
    assert_eq!(
        address(asking.call(&host, "ADD", "host-local", &config)),
        "10.77.0.2"
    );
    assert_eq!(taken(&host), ["10.77.0.2"]);
    pod.sh("ip link add eth0 type bridge && ip addr add 10.77.0.2/16 dev eth0");
    let refused = add_in(&host, "c", &pod.path(), &config).error().1;
    assert!(
        refused.ends_with("10.77.0.2 has been allocated to c, duplicate allocation is not allowed"),
        "{refused}"
    );
    assert!(
        asking
            .call(&host, "ADD", "host-local", &config)
            .error()
            .1
            .contains("is not available")
    );
}

pub fn lost_del() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.5"));
    let pods = ["running", "hidden", "gone"].map(|name| host.pod(name));
    for (number, pod) in pods.iter().enumerate() {
        let ip = address(add_in(&host, &pod.name, &pod.path(), &config));
        assert_eq!(ip, format!("10.77.0.{}", number + 2));
    }
    add(&host, GO, "upstream", &config.replace("1.1.0", "1.0.0")).ok();
    // a process is still in one of the namespaces that have lost their name
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let process = pods[1].spawn(sleep);
    let status = || Cni::new(OURS, "", "").call(&host, "STATUS", "host-local", &config);
    assert_eq!(status().error().0, 50, "all are alive");
    add(&host, OURS, "new", &config).error();
    pods[1].delete();
    add(&host, OURS, "new", &config).error();
    pods[2].delete();
    // the kernel may take a moment to let go of it
    status().ok();
    let outcome = add(&host, OURS, "new", &config);
    assert!(
        outcome.stderr.contains(
            "freed 10.77.0.4 of container gone: network namespace /run/netns/gone is gone"
        ),
        "{outcome:?}"
    );
    assert_eq!(address(outcome), "10.77.0.4");
    add(&host, OURS, "another", &config).error();
    drop(process);
    thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(address(add(&host, OURS, "another", &config)), "10.77.0.3");
    add(&host, OURS, "third", &config).error();
    assert_eq!(taken(&host).len(), 4, "a running pod's and upstream's stay");
}

pub fn reboot() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.4"));
    for id in ["a", "b"] {
        add(&host, OURS, id, &config).ok();
    }
    host.sh("echo 11111111-2222-3333-4444-555555555555 > /run/boot_id && mount --bind /run/boot_id /proc/sys/kernel/random/boot_id");
    add(&host, OURS, "c", &config).ok();
    let outcome = add(&host, OURS, "d", &config).ok();
    for (id, ip) in [("a", 2), ("b", 3)] {
        let told = format!(
            "freed 10.77.0.{ip} of container {id}: the machine was restarted since it was reserved"
        );
        assert!(outcome.stderr.contains(&told), "{outcome:?}");
    }
    add(&host, OURS, "e", &config).ok();
    add(&host, OURS, "f", &config).error();
    let owners = host.sh(&format!(
        "cat {STORE}/10.77.0.2 {STORE}/10.77.0.3 {STORE}/10.77.0.4"
    ));
    assert_eq!(owners, "d\r\neth0e\r\neth0c\r\neth0");
    // the runtime's late DEL of a container from before the reboot takes nothing from the new owner
    super::del(&host, OURS, "a", &config).ok();
    assert_eq!(taken(&host).len(), 3);
}
