//! The `tuning` plugin on an interface that the test creates.

use serde_json::{Value, json};
use tests::{
    Cni, Host, Pod,
    binaries::BIN,
    peers::{GO_PLUGINS as GO, without_go_plugins},
    scenario,
};

const SUITE: &str = BIN;

fn host() -> Host {
    Host::with_suite("node")
}

fn pod<'h>(host: &'h Host, name: &str) -> Pod<'h> {
    let pod = host.pod(name);
    pod.sh("ip link add eth0 address 02:00:00:00:00:01 mtu 1500 txqlen 1000 type veth peer name other && ip link set eth0 up");
    pod
}

fn config(pod: &Pod, version: &str, extra: Value) -> String {
    let mut config = json!({"cniVersion": version, "name": "n", "type": "tuning", "prevResult": {"cniVersion": version,
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.path()}],
        "ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 0}]}});
    for (key, value) in extra.as_object().expect("object") {
        config[key] = value.clone();
    }
    config.to_string()
}

fn everything() -> Value {
    json!({"mac": "02:00:00:00:00:77", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 55,
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.ip_local_port_range": "20000\t30000"}})
}

#[scenario]
fn add_sets_check_compares_and_del_restores_every_setting() {
    let host = host();
    let pod = pod(&host, "p");
    let cni = Cni::new(SUITE, "c", &pod.path());
    let config = config(&pod, "1.1.0", everything());
    let result = cni.call(&host, "ADD", "tuning", &config).ok().json();
    assert_eq!(
        (
            &result["interfaces"][0]["mac"],
            &result["interfaces"][0]["mtu"]
        ),
        (&json!("02:00:00:00:00:77"), &json!(1400))
    );
    let shown = pod.sh("ip -d link show eth0");
    for part in [
        "mtu 1400",
        "qlen 55",
        "PROMISC",
        "ALLMULTI",
        "02:00:00:00:00:77",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_filter"), "1\n");
    cni.call(&host, "CHECK", "tuning", &config).ok();
    for (undo, redo) in [
        ("mtu 1450", "mtu 1400"),
        ("promisc off", "promisc on"),
        ("txqueuelen 5", "txqueuelen 55"),
    ] {
        pod.sh(&format!("ip link set eth0 {undo}"));
        cni.call(&host, "CHECK", "tuning", &config).error();
        pod.sh(&format!("ip link set eth0 {redo}"));
    }
    cni.call(&host, "CHECK", "tuning", &config).ok();
    cni.call(&host, "DEL", "tuning", &config).ok();
    let shown = pod.sh("ip -d link show eth0");
    for part in ["mtu 1500", "qlen 1000", "02:00:00:00:00:01"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(
        !shown.contains("PROMISC") && !shown.contains("ALLMULTI"),
        "{shown}"
    );
    cni.call(&host, "DEL", "tuning", &config).ok();
    cni.with("CNI_NETNS", "")
        .call(&host, "DEL", "tuning", &config)
        .ok();
}

#[scenario(unless = without_go_plugins)]
fn result_and_settings_equal_gos() {
    let host = host();
    // Debian's tuning does not support txQLen
    let mut extra = everything();
    extra.as_object_mut().expect("object").remove("txQLen");
    let settings = |path: &str, name: &str| {
        let pod = pod(&host, name);
        let result = Cni::new(path, name, &pod.path())
            .call(
                &host,
                "ADD",
                "tuning",
                &config(&pod, "0.4.0", extra.clone()),
            )
            .ok()
            .stdout;
        let link = pod.sh("ip -d -j link show eth0 | tr ',' '\n' | grep -e mtu -e address -e flags -e promiscuity -e allmulti");
        let sysctls = pod.sh(
            "cat /proc/sys/net/ipv4/conf/eth0/arp_filter /proc/sys/net/ipv4/ip_local_port_range",
        );
        (result.replace(&pod.path(), "NETNS"), link, sysctls)
    };
    assert_eq!(settings(SUITE, "ours"), settings(GO, "go"));
}

#[scenario]
fn sysctls_outside_of_net_are_refused() {
    let host = host();
    let pod = pod(&host, "p");
    let add = |sysctl: Value| {
        Cni::new(SUITE, "c", &pod.path())
            .call(
                &host,
                "ADD",
                "tuning",
                &config(&pod, "1.0.0", json!({"sysctl": sysctl})),
            )
            .error()
            .1
    };
    assert_eq!(
        add(json!({"kernel.hostname": "x"})),
        "invalid net sysctl key: \"kernel/hostname\""
    );
    assert!(add(json!({"net.ipv4.no_such_thing": "1"})).contains("no_such_thing"));
    assert!(
        add(json!({"net.ipv4.ip_forward": 1})).contains("ip_forward"),
        "a number is not a string"
    );
}

#[scenario]
fn a_repeated_sysctl_is_refused() {
    let host = host();
    let pod = pod(&host, "p");
    let twice = config(&pod, "1.0.0", json!({})).replacen(
        '{',
        r#"{"sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"},"#,
        1,
    );
    let cni = Cni::new(SUITE, "c", &pod.path());
    let refused = (999, "duplicated sysctl keys are not allowed".to_owned());
    assert_eq!(cni.call(&host, "ADD", "tuning", &twice).error(), refused);
    assert_eq!(cni.call(&host, "CHECK", "tuning", &twice).error(), refused);
    cni.call(&host, "DEL", "tuning", &twice).ok();
}

/// A node that changes from one plugin to the other has backups of both.
#[scenario(unless = without_go_plugins)]
fn backups_are_shared_with_go() {
    let host = host();
    let file = "/run/cni/tuning/c_eth0.json";
    let exists = || host.try_sh(&format!("test -e {file}")).status.success();
    for (adds, deletes) in [(SUITE, GO), (GO, SUITE)] {
        let pod = pod(&host, "p");
        let conf = config(
            &pod,
            "1.0.0",
            json!({"mac": "02:00:00:00:00:77", "mtu": 1400}),
        );
        let call = |path, verb| Cni::new(path, "c", &pod.path()).call(&host, verb, "tuning", &conf);
        call(adds, "ADD").ok();
        assert!(exists());
        call(deletes, "DEL").ok();
        let shown = pod.sh("ip link show eth0");
        assert!(
            shown.contains("mtu 1500") && shown.contains("02:00:00:00:00:01"),
            "{shown}"
        );
        assert!(!exists(), "{deletes}");
        pod.delete();
    }
    // DEL removes the backup also if namespace, interface or backup are damaged
    for damage in [
        "true",
        "ip link delete eth0",
        "echo '{' >/run/cni/tuning/c_eth0.json",
    ] {
        let pod = pod(&host, "p");
        let conf = config(&pod, "1.0.0", json!({"mtu": 1400}));
        let cni = Cni::new(SUITE, "c", &pod.path());
        cni.call(&host, "ADD", "tuning", &conf).ok();
        pod.sh(damage);
        let netns = if damage == "true" { "" } else { &pod.path() };
        let late = cni.with("CNI_NETNS", netns);
        late.call(&host, "DEL", "tuning", &conf).ok();
        assert!(!exists(), "{damage}");
        pod.delete();
    }
}

#[scenario]
fn sysctls_that_no_line_of_the_allowlist_matches_are_refused() {
    let host = host();
    let pod = pod(&host, "p");
    let sysctl = json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}});
    let call = |verb: &str, list: &str| {
        let conf = config(&pod, "1.1.0", sysctl.clone());
        host.run(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
            let none = None::<&str>;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(none, "/etc", Some("tmpfs"), flags, none).expect("tmpfs");
            std::fs::create_dir_all("/etc/cni/tuning").expect("folder");
            std::fs::write("/etc/cni/tuning/allowlist.conf", list).expect("list");
            Cni::new(SUITE, "c", &pod.path()).call_here(verb, "tuning", &conf)
        })
    };
    call("ADD", "^net.ipv4.conf.IFNAME.arp_[a-z]*$").ok();
    call("STATUS", "^net.ipv4.conf.IFNAME.arp_[a-z]*$").ok();
    let refused = "Sysctl net.ipv4.conf.IFNAME.arp_filter is not allowed. Only the following sysctls are allowed: [^net.core]";
    assert_eq!(call("ADD", "^net.core").error(), (999, refused.into()));
    assert_eq!(call("STATUS", "^net.core").error(), (50, refused.into()));
}

#[scenario]
fn gc_removes_only_backups_without_a_valid_attachment() {
    let host = host();
    let (a, b) = (pod(&host, "a"), pod(&host, "b"));
    for (pod, id) in [(&a, "stale"), (&b, "valid")] {
        Cni::new(SUITE, id, &pod.path())
            .call(
                &host,
                "ADD",
                "tuning",
                &config(pod, "1.1.0", json!({"mtu": 1400})),
            )
            .ok();
    }
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "valid", "ifname": "eth0"}], "mtu": 1400});
    let mut conf: Value = serde_json::from_str(&config(&a, "1.1.0", valid)).expect("JSON");
    conf.as_object_mut().expect("object").remove("prevResult");
    let gc = Cni::new(SUITE, "", "").with("CNI_IFNAME", "");
    gc.call(&host, "GC", "tuning", &conf.to_string()).ok();
    assert_eq!(host.sh("ls /run/cni/tuning"), "valid_eth0.json\n");
}
