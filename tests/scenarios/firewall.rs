//! The `firewall` plugin with iptables' filter table, and with firewalld if it is installed.

use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};
use tests::{
    Cni, Host, Outcome,
    binaries::BIN,
    peers::{GO_PLUGINS as GO, without_go_plugins},
    process::eventually,
    scenario,
};

const SUITE: &str = BIN;

fn without_firewalld() -> Option<String> {
    let programs = ["/usr/sbin/firewalld", "/usr/bin/dbus-daemon"];
    let missing = programs
        .iter()
        .find(|program| !Path::new(program).exists())?;
    Some(format!("{missing} is not installed"))
}

fn host() -> Host {
    Host::with_suite("node")
}

fn config(version: &str, ips: &[&str], extra: &Value) -> String {
    let ips: Vec<_> = ips
        .iter()
        .map(|ip| json!({"address": ip, "version": "4", "interface": 1}))
        .collect();
    let mut config = json!({"cniVersion": version, "name": "net", "type": "firewall", "backend": "iptables", "prevResult": {
        "cniVersion": version, "ips": ips,
        "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/p"}],
    }});
    for (key, value) in extra.as_object().expect("object") {
        config[key] = value.clone();
    }
    config.to_string()
}

fn call(host: &Host, path: &str, verb: &str, id: &str, config: &str) -> Outcome {
    Cni::new(path, id, "/run/netns/p").call(host, verb, "firewall", config)
}

/// The filter table of both families, without comments and counters.
fn rules(host: &Host) -> String {
    let save = |program: &str| {
        host.sh(&format!(
            "{program} -t filter | grep -e '^-A' -e '^:' | sed 's/ \\[.*//'"
        ))
    };
    let both = save("iptables-save") + "\n" + &save("ip6tables-save");
    // Debian's plugin has only the first policy, so its comment does not name the second
    both.replace("same-bridge|isolated", "same-bridge")
}

#[scenario(unless = without_go_plugins)]
fn rules_equal_gos() {
    for extra in [
        json!({}),
        json!({"iptablesAdminChainName": "MINE"}),
        json!({"ingressPolicy": "open"}),
        json!({"ingressPolicy": "same-bridge"}),
    ] {
        let tables = [SUITE, GO].map(|path| {
            let host = host();
            host.sh("iptables -A FORWARD -s 192.0.2.1 -j DROP");
            // the second pod finds the chains of the first
            for (id, ip) in [("c1", "10.0.0.2/24"), ("c2", "10.0.0.3/24")] {
                let config = config("1.0.0", &[ip, "fd00::2/64"], &extra);
                let added = call(&host, path, "ADD", id, &config).ok().json();
                let given: Value = serde_json::from_str(&config).expect("JSON");
                assert_eq!(
                    added["ips"].as_array().map(Vec::len),
                    given["prevResult"]["ips"].as_array().map(Vec::len)
                );
                call(&host, path, "CHECK", id, &config).ok();
            }
            let added = rules(&host);
            call(
                &host,
                path,
                "DEL",
                "c1",
                &config("1.0.0", &["10.0.0.2/24"], &extra),
            )
            .ok();
            (added, rules(&host))
        });
        assert_eq!(tables[0], tables[1], "{extra}");
    }
}

#[scenario]
fn add_is_idempotent_check_reports_each_missing_rule_del_removes_all() {
    let host = host();
    let config = config("1.1.0", &["10.0.0.2/24", "fd00::2/64"], &json!({}));
    call(&host, SUITE, "STATUS", "c1", &config).ok();
    call(&host, SUITE, "ADD", "c1", &config).ok();
    let once = rules(&host);
    call(&host, SUITE, "ADD", "c1", &config).ok();
    assert_eq!(rules(&host), once, "a second ADD adds nothing");
    call(&host, SUITE, "CHECK", "c1", &config).ok();
    for (family, rule, expected) in [
        (
            "iptables",
            "CNI-FORWARD -s 10.0.0.2/32 -j ACCEPT",
            "expected rule [-s 10.0.0.2/32 -j ACCEPT] not found",
        ),
        (
            "iptables",
            "FORWARD -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD",
            "expected FORWARD rule [-m comment --comment CNI firewall plugin rules -j CNI-FORWARD] not found",
        ),
        (
            "ip6tables",
            "CNI-FORWARD -d fd00::2/128 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "expected rule [-d fd00::2/128 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT] not found",
        ),
    ] {
        host.sh(&format!("{family} -D {rule}"));
        assert_eq!(
            call(&host, SUITE, "CHECK", "c1", &config).error(),
            (999, expected.into())
        );
        call(&host, SUITE, "ADD", "c1", &config).ok();
        call(&host, SUITE, "CHECK", "c1", &config).ok();
    }
    call(&host, SUITE, "DEL", "c1", &config).ok();
    assert!(!rules(&host).contains("10.0.0.2") && !rules(&host).contains("fd00::2"));
    call(&host, SUITE, "DEL", "c1", &config).ok();
}

#[scenario]
fn isolated_policy_drops_traffic_within_the_bridge_and_stays_after_del() {
    let host = host();
    let config = config(
        "1.1.0",
        &["10.0.0.2/24"],
        &json!({"ingressPolicy": "isolated"}),
    );
    call(&host, SUITE, "ADD", "c1", &config).ok();
    call(&host, SUITE, "CHECK", "c1", &config).ok();
    let shown = host.sh("iptables -S FORWARD");
    let order: Vec<_> = shown
        .lines()
        .filter_map(|line| line.split("-j ").nth(1))
        .collect();
    assert_eq!(order, ["CNI-ISOLATION-STAGE-1", "CNI-FORWARD"]);
    let shown = host.sh("iptables -S CNI-ISOLATION-STAGE-1");
    let order: Vec<_> = shown
        .lines()
        .filter_map(|line| line.split("-j ").nth(1))
        .collect();
    assert_eq!(order, ["DROP", "CNI-ISOLATION-STAGE-2", "RETURN"]);
    assert!(
        host.sh("ip6tables-save -t filter")
            .find("ISOLATION")
            .is_none(),
        "no address of that family"
    );
    host.sh("iptables -F CNI-ISOLATION-STAGE-2");
    let (_, msg) = call(&host, SUITE, "CHECK", "c1", &config).error();
    assert!(
        msg.starts_with("expected CNI-ISOLATION-STAGE-2 rule [-o cni0 "),
        "{msg}"
    );
    call(&host, SUITE, "DEL", "c1", &config).ok();
    // other containers on the bridge still need these rules
    assert!(
        host.sh("iptables -S")
            .contains("CNI-ISOLATION-STAGE-1 -i cni0 -o cni0")
    );
}

#[scenario]
fn forwarded_traffic_passes_only_between_add_and_del() {
    let host = host();
    host.sh("iptables -P FORWARD DROP");
    let outside = host.pod("outside");
    let pod = host.pod("p");
    for (name, net) in [("outside", "10.9.0"), ("p", "10.0.0")] {
        host.sh(&format!(
            "ip link add v{name} type veth peer name eth0 netns {name} && ip link set v{name} up
             ip address add {net}.1/24 dev v{name}
             ip -n {name} link set eth0 up && ip -n {name} address add {net}.2/24 dev eth0
             ip -n {name} route add default via {net}.1"
        ));
    }
    let reaches = || pod.try_sh("ping -c1 -W1 10.9.0.2").status.success();
    assert!(!reaches());
    let config = config("1.0.0", &["10.0.0.2/24"], &json!({}));
    call(&host, SUITE, "ADD", "c1", &config).ok();
    assert!(reaches());
    assert!(
        !outside.try_sh("ping -c1 -W1 10.0.0.2").status.success(),
        "only replies reach the pod"
    );
    host.sh("iptables -I CNI-ADMIN -s 10.0.0.2 -j DROP");
    assert!(!reaches(), "the administrator's chain comes first");
    host.sh("iptables -F CNI-ADMIN");
    call(&host, SUITE, "DEL", "c1", &config).ok();
    assert!(!reaches());
}

#[scenario]
fn del_needs_neither_rules_nor_prev_result() {
    let host = host();
    let bare =
        r#"{"cniVersion":"1.0.0","name":"net","type":"firewall","ingressPolicy":"nonsense"}"#;
    call(&host, SUITE, "DEL", "c1", bare).ok();
    // iptables did not run: it would have created its tables
    assert_eq!(host.sh("nft list tables"), "");
    let before = rules(&host);
    call(
        &host,
        SUITE,
        "ADD",
        "c1",
        &config("1.0.0", &["10.0.0.2/24"], &json!({})),
    )
    .ok();
    assert!(rules(&host) != before && host.sh("ls /run/cni/firewall") == "c1_eth0.json\n");
    call(&host, SUITE, "DEL", "c1", bare).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
    assert_eq!(host.sh("ls /run/cni/firewall"), "");
}

#[scenario]
fn late_del_keeps_the_rules_of_the_next_owner_of_the_address() {
    let host = host();
    let config = config("1.0.0", &["10.0.0.2/24"], &json!({}));
    call(&host, SUITE, "ADD", "old", &config).ok();
    call(&host, SUITE, "ADD", "new", &config).ok();
    for _ in 0..2 {
        call(&host, SUITE, "DEL", "old", &config).ok();
        call(&host, SUITE, "CHECK", "new", &config).ok();
    }
    call(&host, SUITE, "DEL", "new", &config).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
}

#[scenario(unless = without_go_plugins)]
fn each_plugin_removes_the_rules_of_the_other() {
    let host = host();
    let config = config("1.0.0", &["10.0.0.2/24", "fd00::2/64"], &json!({}));
    for (adds, deletes) in [(GO, SUITE), (SUITE, GO)] {
        call(&host, adds, "ADD", "c1", &config).ok();
        call(&host, deletes, "CHECK", "c1", &config).ok();
        call(&host, deletes, "DEL", "c1", &config).ok();
        let left = rules(&host);
        assert!(
            !left.contains("10.0.0.2") && !left.contains("fd00::2"),
            "{left}"
        );
    }
}

/// Chains are created once, and no process flushes the rules of another.
#[scenario]
fn concurrent_adds_and_dels_do_not_lose_rules() {
    let host = host();
    let pods: Vec<_> = (2..14)
        .map(|n| (format!("c{n}"), format!("10.0.0.{n}/24")))
        .collect();
    let each = |verb: &str| {
        std::thread::scope(|scope| {
            for (id, ip) in &pods {
                let host = &host;
                scope.spawn(move || {
                    call(host, SUITE, verb, id, &config("1.0.0", &[ip], &json!({}))).ok()
                });
            }
        });
    };
    each("ADD");
    each("CHECK");
    let saved = rules(&host);
    assert_eq!(
        saved.matches("-A CNI-FORWARD -s").count(),
        pods.len(),
        "{saved}"
    );
    each("DEL");
    assert!(!rules(&host).contains("-A CNI-FORWARD -s"));
}

#[scenario]
fn gc_removes_only_rules_and_records_without_a_valid_attachment() {
    let host = host();
    for (id, name, ip) in [
        ("stale", "net", "10.0.0.2/24"),
        ("valid", "net", "10.0.0.3/24"),
        ("other", "other", "10.0.0.4/24"),
    ] {
        let config = config("1.1.0", &[ip], &json!({"name": name}));
        call(&host, SUITE, "ADD", id, &config).ok();
    }
    let valid = json!([{"containerID": "valid", "ifname": "eth0"}]);
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "cni.dev/valid-attachments": valid});
    call(&host, SUITE, "GC", "", &config.to_string()).ok();
    let left = rules(&host);
    assert!(
        !left.contains("10.0.0.2/32")
            && left.contains("10.0.0.3/32")
            && left.contains("10.0.0.4/32")
    );
    assert_eq!(
        host.sh("ls /run/cni/firewall"),
        "other_eth0.json\nvalid_eth0.json\n"
    );
}

#[scenario]
fn invalid_keys_and_missing_backends_are_refused_and_leave_nothing() {
    let host = host();
    let add = |config: &str| call(&host, SUITE, "ADD", "c1", config).error();
    let with = |extra: Value| config("1.1.0", &["10.0.0.2/24"], &extra);
    let without_prev_result = r#"{"cniVersion":"1.0.0","name":"net","type":"firewall"}"#;
    assert_eq!(
        add(without_prev_result),
        (999, "missing prevResult from earlier plugin".into())
    );
    let closed = with(json!({"ingressPolicy": "closed"}));
    assert_eq!(add(&closed).1, "unknown ingress policy: \"closed\"");
    assert_eq!(call(&host, SUITE, "STATUS", "c1", &closed).error().0, 50);
    assert!(
        add(&with(json!({"iptablesAdminChainName": "a b"})))
            .1
            .contains("iptablesAdminChainName")
    );
    let (_, msg) = add(&with(json!({"backend": "firewalld"})));
    assert!(
        msg.starts_with("cannot talk to D-Bus at /var/run/dbus/system_bus_socket: "),
        "{msg}"
    );
    assert_eq!(
        call(
            &host,
            SUITE,
            "STATUS",
            "c1",
            &with(json!({"backend": "firewalld"}))
        )
        .error()
        .0,
        50
    );
    // CHECK exists since 0.4.0
    assert_eq!(add(&config("0.3.1", &["10.0.0.2/24"], &json!({}))).0, 1);
    // a refused ADD leaves no record and no table
    assert_eq!(host.sh("ls /run/cni/firewall 2>/dev/null || true"), "");
    assert_eq!(host.sh("nft list tables"), "");
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_type="signal"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow user="*"/></policy></busconfig>"#;

/// firewalld on a bus in the host's namespace.
#[scenario(unless = without_firewalld)]
fn firewalld_has_the_addresses_as_sources_between_add_and_del() {
    let host = host();
    host.run(|| {
        std::fs::create_dir_all("/run/dbus").expect("folder");
        std::fs::write("/run/bus.conf", BUS).expect("bus.conf");
    });
    let spawn = |line: &str| {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().expect("program"));
        command.args(words);
        host.spawn(command)
    };
    let query = |what: &str| {
        host.try_sh(&format!(
            "dbus-send --system --print-reply --dest=org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 \
             org.fedoraproject.FirewallD1.zone.{what}"
        ))
    };
    let _bus = spawn("dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile");
    let any = config(
        "1.1.0",
        &["10.0.0.2/24", "fd00::2/64"],
        &json!({"backend": ""}),
    );
    // firewalld does not run yet, so iptables is selected
    call(&host, SUITE, "ADD", "early", &any).ok();
    assert!(rules(&host).contains("10.0.0.2"));
    let _daemon = spawn("firewalld --nofork --nopid --log-target=console");
    eventually("firewalld answers", Duration::from_secs(60), || {
        query("getZones").status.success().then_some(())
    });
    let sources = || {
        let shown = query("getSources string:trusted").stdout;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let quoted = shown.split('"').skip(1).step_by(2).map(str::to_owned);
        quoted.collect::<Vec<_>>()
    };
    let both = ["10.0.0.2/32", "fd00::2/128"];
    // DEL removes the iptables rules of the earlier ADD
    call(&host, SUITE, "DEL", "early", &any).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
    for backend in ["", "firewalld"] {
        let config = config(
            "1.1.0",
            &["10.0.0.2/24", "fd00::2/64"],
            &json!({"backend": backend}),
        );
        call(&host, SUITE, "STATUS", "c1", &config).ok();
        call(&host, SUITE, "ADD", "c1", &config).ok();
        call(&host, SUITE, "ADD", "c1", &config).ok();
        assert_eq!(sources(), both);
        call(&host, SUITE, "CHECK", "c1", &config).ok();
        call(
            &host,
            SUITE,
            "DEL",
            "c1",
            r#"{"cniVersion":"1.1.0","name":"net","type":"firewall"}"#,
        )
        .ok();
        assert!(sources().is_empty());
        assert_eq!(
            call(&host, SUITE, "CHECK", "c1", &config).error().1,
            "failed to find the address 10.0.0.2/32 in trusted zone"
        );
        call(&host, SUITE, "DEL", "c1", &config).ok();
    }
    let unknown_zone = config(
        "1.1.0",
        &["10.0.0.2/24"],
        &json!({"backend": "firewalld", "firewalldZone": "nowhere"}),
    );
    let (_, msg) = call(&host, SUITE, "ADD", "c1", &unknown_zone).error();
    assert!(
        msg.starts_with("failed to add the address 10.0.0.2/32 to nowhere zone: "),
        "{msg}"
    );
}
