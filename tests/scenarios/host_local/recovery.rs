//! Reclaiming of reservations after a failed ADD, a lost DEL and a reboot. Those of live pods stay.

use super::{STORE, SUITE, UPSTREAM, add, address, config, host, range, taken};
use std::{fs, os::unix::fs::MetadataExt, process::Command, thread, time::Duration};
use tests::{Cni, Host, Pod, process::eventually, scenario};

/// ADD for a pod with a namespace.
fn add_in(host: &Host, id: &str, netns: &str, config: &str) -> tests::Outcome {
    Cni::new(SUITE, id, netns).call(host, "ADD", "host-local", config)
}

/// The runtime repeats a failed ADD without a DEL.
#[scenario]
fn repeated_add_gets_the_same_address() {
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
    let requesting = Cni::new(SUITE, "c", &pod.path()).with("CNI_ARGS", "IP=10.77.0.2");
    assert_eq!(
        address(requesting.call(&host, "ADD", "host-local", &config)),
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
        requesting
            .call(&host, "ADD", "host-local", &config)
            .error()
            .1
            .contains("is not available")
    );
}

#[scenario]
fn reservation_is_reclaimed_when_its_namespace_is_gone() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.5"));
    let pods = ["running", "hidden", "gone"].map(|name| host.pod(name));
    for (number, pod) in pods.iter().enumerate() {
        let ip = address(add_in(&host, &pod.name, &pod.path(), &config));
        assert_eq!(ip, format!("10.77.0.{}", number + 2));
    }
    add(
        &host,
        UPSTREAM,
        "upstream",
        &config.replace("1.1.0", "1.0.0"),
    )
    .ok();
    // a process is still in one of the namespaces without a path
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let process = pods[1].spawn(sleep);
    let status = || Cni::new(SUITE, "", "").call(&host, "STATUS", "host-local", &config);
    assert_ne!(status().ok().stderr, "", "all are alive");
    add(&host, SUITE, "new", &config).error();
    pods[1].delete();
    add(&host, SUITE, "new", &config).error();
    pods[2].delete();
    assert_eq!(status().ok().stderr, "");
    let outcome = add(&host, SUITE, "new", &config);
    assert!(
        outcome.stderr.contains(
            "freed 10.77.0.4 of container gone: network namespace /run/netns/gone no longer exists"
        ),
        "{outcome:?}"
    );
    assert_eq!(address(outcome), "10.77.0.4");
    add(&host, SUITE, "another", &config).error();
    drop(process);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(address(add(&host, SUITE, "another", &config)), "10.77.0.3");
    add(&host, SUITE, "third", &config).error();
    assert_eq!(
        taken(&host).len(),
        4,
        "the reservations of a running pod and of upstream's plugin stay"
    );
}

/// Where the records of the reservations are.
const INDEX: &str = "/var/lib/cni/networks/.host-local/n/[0-9a-f][0-9a-f]";

/// The number of the pod's network namespace.
fn inode(pod: &Pod<'_>) -> u64 {
    let namespace = pod.run(|| fs::metadata("/proc/thread-self/ns/net"));
    namespace.expect("stat").ino()
}

/// The kernel gives the inode of a namespace that has ended to a later one. Which one gets it
/// depends on what else runs on the machine, so the record is changed instead.
#[scenario]
fn reservation_is_reclaimed_when_a_later_namespace_has_the_inode() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.3"));
    let pods = ["gone", "later"].map(|name| host.pod(name));
    let inodes = pods.each_ref().map(inode);
    for pod in &pods {
        add_in(&host, &pod.name, &pod.path(), &config).ok();
    }
    pods[0].delete();
    let [gone, later] = inodes;
    host.sh(&format!("sed -i 's/ {gone} / {later} /' {INDEX}"));
    let outcome = add(&host, SUITE, "new", &config).ok();
    assert!(
        outcome.stderr.contains(
            "freed 10.77.0.2 of container gone: network namespace /run/netns/gone no longer exists"
        ),
        "{outcome:?}"
    );
    assert_eq!(address(outcome), "10.77.0.2");
    // that of the namespace which exists stays
    add(&host, SUITE, "more", &config).error();
    // the retry of an ADD for a container whose namespace is gone, too
    super::del(&host, SUITE, "new", &config).ok();
    let again = host.pod("again");
    add_in(&host, "again", &again.path(), &config).ok();
    let ended = inode(&again);
    again.delete();
    host.sh(&format!("sed -i 's/ {ended} / {later} /' {INDEX}"));
    let other = host.pod("other");
    assert_eq!(
        address(add_in(&host, "again", &other.path(), &config)),
        "10.77.0.2"
    );
}

/// Earlier versions read each line of nine words, and skip the others.
#[scenario]
fn records_are_those_of_earlier_versions() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.3"));
    let pods = ["running", "gone"].map(|name| host.pod(name));
    for pod in &pods {
        add_in(&host, &pod.name, &pod.path(), &config).ok();
    }
    let lines = host.sh(&format!("cat {INDEX}"));
    let (records, rest): (Vec<&str>, Vec<&str>) =
        lines.lines().partition(|line| line.starts_with("10.77."));
    assert_eq!(records.len(), 2, "{lines}");
    let words = |line: &&str| line.split(' ').count();
    assert!(records.iter().all(|line| words(line) == 9), "{lines}");
    assert!(rest.iter().all(|line| words(line) == 2), "{lines}");
    // as an earlier version rewrites them
    host.sh(&format!("sed -i /^cookie/d {INDEX}"));
    pods[1].delete();
    let add = |id: &str| add(&host, SUITE, id, &config);
    // until then the inode may be that of a namespace of another case
    let freed = || (add("new").code == 0).then_some(());
    eventually("an unused inode", Duration::from_secs(20), freed);
    add("more").error();
    super::del(&host, SUITE, "running", &config).ok();
    assert_eq!(taken(&host), ["10.77.0.3"]);
}

#[scenario]
fn reservations_of_an_earlier_boot_are_reclaimed() {
    let host = host();
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.4"));
    for id in ["a", "b"] {
        add(&host, SUITE, id, &config).ok();
    }
    host.sh("echo 11111111-2222-3333-4444-555555555555 > /run/boot_id && mount --bind /run/boot_id /proc/sys/kernel/random/boot_id");
    add(&host, SUITE, "c", &config).ok();
    let outcome = add(&host, SUITE, "d", &config).ok();
    for (id, ip) in [("a", 2), ("b", 3)] {
        let warning = format!(
            "freed 10.77.0.{ip} of container {id}: the machine was restarted since it was reserved"
        );
        assert!(outcome.stderr.contains(&warning), "{outcome:?}");
    }
    add(&host, SUITE, "e", &config).ok();
    add(&host, SUITE, "f", &config).error();
    let owners = host.sh(&format!(
        "cat {STORE}/10.77.0.2 {STORE}/10.77.0.3 {STORE}/10.77.0.4"
    ));
    assert_eq!(owners, "d\r\neth0e\r\neth0c\r\neth0");
    // a late DEL of a container from before the reboot does not affect the new owner
    super::del(&host, SUITE, "a", &config).ok();
    assert_eq!(taken(&host).len(), 3);
}

/// Without CAP_SYS_PTRACE the namespaces of other processes cannot be read.
#[scenario]
fn with_an_unreadable_proc_only_what_is_surely_gone_is_reclaimed() {
    let host = host();
    host.write(
        "/opt/limited/host-local",
        "#!/bin/sh\nexec setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace /opt/cni/bin/host-local\n",
    );
    host.sh("chmod +x /opt/limited/host-local");
    let config = config("1.1.0", range("10.77.0.2", "10.77.0.4"));
    let pods = ["running", "hidden", "gone"].map(|name| host.pod(name));
    for pod in &pods {
        add_in(&host, &pod.name, &pod.path(), &config).ok();
    }
    // its path has another file, which may be a mount elsewhere
    pods[1].delete();
    host.write("/run/netns/hidden", "");
    let gone = inode(&pods[2]);
    pods[2].delete();
    // no namespace has this number; the freed one may be that of a namespace elsewhere by now
    host.sh(&format!("sed -i 's/ {gone} / 1 /' {INDEX}"));
    let new = Cni::new("/opt/limited", "new", "/none").call(&host, "ADD", "host-local", &config);
    let outcome = new.ok();
    assert_eq!(
        outcome
            .stderr
            .matches("cannot read every process in /proc")
            .count(),
        1,
        "{outcome:?}"
    );
    assert_eq!(address(outcome), "10.77.0.4");
    Cni::new("/opt/limited", "more", "/none")
        .call(&host, "ADD", "host-local", &config)
        .error();
    assert_eq!(address(add(&host, SUITE, "more", &config)), "10.77.0.3");
    add(&host, SUITE, "third", &config).error();
}
