//! The `firewall` plugin: iptables' filter table, and firewalld where it is installed.

use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};
use tests::{Case, Cni, Host, Outcome, binaries, case, process::eventually};

const OURS: &str = "/opt/cni/bin";
const GO: &str = "/usr/lib/cni";

/// The cases.
pub fn cases() -> Vec<Case> {
    let no_go = (!Path::new(GO).join("firewall").exists())
        .then(|| "Debian's containernetworking-plugins are not installed".to_owned());
    let no_firewalld = ["/usr/sbin/firewalld", "/usr/bin/dbus-daemon"]
        .iter()
        .find(|program| !Path::new(program).exists())
        .map(|program| format!("{program} is not installed"));
    vec![
        case("firewall/same-as-go", same_as_go).unless(no_go.clone()),
        case("firewall/add-check-del", add_check_del),
        case("firewall/isolated", isolated),
        case("firewall/traffic", traffic),
        case("firewall/del-without-anything", del_without_anything),
        case("firewall/reused-address", reused_address),
        case("firewall/taken-over-from-go", taken_over_from_go).unless(no_go),
        case("firewall/at-once", at_once),
        case("firewall/gc", gc),
        case("firewall/refusals", refusals),
        case("firewall/firewalld", firewalld).unless(no_firewalld),
    ]
}

fn host() -> Host {
    let host = Host::new("node");
    host.run(|| binaries::install_suite(OURS.as_ref()));
    host
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
    // Debian's plugin is older than the second policy and does not name it where both share a rule
    both.replace("same-bridge|isolated", "same-bridge")
}

fn same_as_go() {
    for extra in [
        json!({}),
        json!({"iptablesAdminChainName": "MINE"}),
        json!({"ingressPolicy": "open"}),
        json!({"ingressPolicy": "same-bridge"}),
    ] {
        let tables = [OURS, GO].map(|path| {
            let host = host();
            host.sh("iptables -A FORWARD -s 192.0.2.1 -j DROP");
            // two pods, since the second finds what the first one made
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

fn add_check_del() {
    let host = host();
    let config = config("1.1.0", &["10.0.0.2/24", "fd00::2/64"], &json!({}));
    call(&host, OURS, "STATUS", "c1", &config).ok();
    call(&host, OURS, "ADD", "c1", &config).ok();
    let once = rules(&host);
    call(&host, OURS, "ADD", "c1", &config).ok();
    assert_eq!(rules(&host), once, "a second ADD adds nothing");
    call(&host, OURS, "CHECK", "c1", &config).ok();
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
            call(&host, OURS, "CHECK", "c1", &config).error(),
            (999, expected.into())
        );
        call(&host, OURS, "ADD", "c1", &config).ok();
        call(&host, OURS, "CHECK", "c1", &config).ok();
    }
    call(&host, OURS, "DEL", "c1", &config).ok();
    assert!(!rules(&host).contains("10.0.0.2") && !rules(&host).contains("fd00::2"));
    call(&host, OURS, "DEL", "c1", &config).ok();
}

fn isolated() {
    let host = host();
    let config = config(
        "1.1.0",
        &["10.0.0.2/24"],
        &json!({"ingressPolicy": "isolated"}),
    );
    call(&host, OURS, "ADD", "c1", &config).ok();
    call(&host, OURS, "CHECK", "c1", &config).ok();
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
    let (_, msg) = call(&host, OURS, "CHECK", "c1", &config).error();
    assert!(
        msg.starts_with("expected CNI-ISOLATION-STAGE-2 rule [-o cni0 "),
        "{msg}"
    );
    call(&host, OURS, "DEL", "c1", &config).ok();
    // others on the bridge still need them
    assert!(
        host.sh("iptables -S")
            .contains("CNI-ISOLATION-STAGE-1 -i cni0 -o cni0")
    );
}

/// A host that forwards nothing forwards for the pod.
fn traffic() {
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
    call(&host, OURS, "ADD", "c1", &config).ok();
    assert!(reaches());
    assert!(
        !outside.try_sh("ping -c1 -W1 10.0.0.2").status.success(),
        "only answers come in"
    );
    host.sh("iptables -I CNI-ADMIN -s 10.0.0.2 -j DROP");
    assert!(!reaches(), "the administrator has the first word");
    host.sh("iptables -F CNI-ADMIN");
    call(&host, OURS, "DEL", "c1", &config).ok();
    assert!(!reaches());
}

fn del_without_anything() {
    let host = host();
    let bare =
        r#"{"cniVersion":"1.0.0","name":"net","type":"firewall","ingressPolicy":"nonsense"}"#;
    call(&host, OURS, "DEL", "c1", bare).ok();
    // nothing was asked of iptables: its tables would be there now
    assert_eq!(host.sh("nft list tables"), "");
    let before = rules(&host);
    call(
        &host,
        OURS,
        "ADD",
        "c1",
        &config("1.0.0", &["10.0.0.2/24"], &json!({})),
    )
    .ok();
    assert!(rules(&host) != before && host.sh("ls /run/cni/firewall") == "c1_eth0.json\n");
    call(&host, OURS, "DEL", "c1", bare).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
    assert_eq!(host.sh("ls /run/cni/firewall"), "");
}

/// A late DEL does not take the rules of the pod that has the address now.
fn reused_address() {
    let host = host();
    let config = config("1.0.0", &["10.0.0.2/24"], &json!({}));
    call(&host, OURS, "ADD", "old", &config).ok();
    call(&host, OURS, "ADD", "new", &config).ok();
    for _ in 0..2 {
        call(&host, OURS, "DEL", "old", &config).ok();
        call(&host, OURS, "CHECK", "new", &config).ok();
    }
    call(&host, OURS, "DEL", "new", &config).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
}

fn taken_over_from_go() {
    let host = host();
    let config = config("1.0.0", &["10.0.0.2/24", "fd00::2/64"], &json!({}));
    for (adds, deletes) in [(GO, OURS), (OURS, GO)] {
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

/// Chains are made once, whoever is first, and nobody empties what another has put there.
fn at_once() {
    let host = host();
    let pods: Vec<_> = (2..14)
        .map(|n| (format!("c{n}"), format!("10.0.0.{n}/24")))
        .collect();
    let each = |verb: &str| {
        std::thread::scope(|scope| {
            for (id, ip) in &pods {
                let host = &host;
                scope.spawn(move || {
                    call(host, OURS, verb, id, &config("1.0.0", &[ip], &json!({}))).ok()
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

fn gc() {
    let host = host();
    for (id, name, ip) in [
        ("gone", "net", "10.0.0.2/24"),
        ("lives", "net", "10.0.0.3/24"),
        ("other", "other", "10.0.0.4/24"),
    ] {
        let config = config("1.1.0", &[ip], &json!({"name": name}));
        call(&host, OURS, "ADD", id, &config).ok();
    }
    let valid = json!([{"containerID": "lives", "ifname": "eth0"}]);
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "cni.dev/valid-attachments": valid});
    call(&host, OURS, "GC", "", &config.to_string()).ok();
    let left = rules(&host);
    assert!(
        !left.contains("10.0.0.2/32")
            && left.contains("10.0.0.3/32")
            && left.contains("10.0.0.4/32")
    );
    assert_eq!(
        host.sh("ls /run/cni/firewall"),
        "lives_eth0.json\nother_eth0.json\n"
    );
}

fn refusals() {
    let host = host();
    let add = |config: &str| call(&host, OURS, "ADD", "c1", config).error();
    let with = |extra: Value| config("1.1.0", &["10.0.0.2/24"], &extra);
    let unchained = r#"{"cniVersion":"1.0.0","name":"net","type":"firewall"}"#;
    assert_eq!(
        add(unchained),
        (999, "missing prevResult from earlier plugin".into())
    );
    let closed = with(json!({"ingressPolicy": "closed"}));
    assert_eq!(add(&closed).1, "unknown ingress policy: \"closed\"");
    assert_eq!(call(&host, OURS, "STATUS", "c1", &closed).error().0, 50);
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
            OURS,
            "STATUS",
            "c1",
            &with(json!({"backend": "firewalld"}))
        )
        .error()
        .0,
        50
    );
    // 0.4.0 is the first version with CHECK
    assert_eq!(add(&config("0.3.1", &["10.0.0.2/24"], &json!({}))).0, 1);
    // none of them left anything
    assert_eq!(host.sh("ls /run/cni/firewall 2>/dev/null || true"), "");
    assert_eq!(host.sh("nft list tables"), "");
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_type="signal"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow user="*"/></policy></busconfig>"#;

/// The real firewalld on a bus of the host's own.
fn firewalld() {
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
    // nobody there yet: iptables it is
    call(&host, OURS, "ADD", "early", &any).ok();
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
    // what iptables was told before is taken back from there
    call(&host, OURS, "DEL", "early", &any).ok();
    assert!(!rules(&host).contains("10.0.0.2"));
    for backend in ["", "firewalld"] {
        let config = config(
            "1.1.0",
            &["10.0.0.2/24", "fd00::2/64"],
            &json!({"backend": backend}),
        );
        call(&host, OURS, "STATUS", "c1", &config).ok();
        call(&host, OURS, "ADD", "c1", &config).ok();
        call(&host, OURS, "ADD", "c1", &config).ok();
        assert_eq!(sources(), both);
        call(&host, OURS, "CHECK", "c1", &config).ok();
        call(
            &host,
            OURS,
            "DEL",
            "c1",
            r#"{"cniVersion":"1.1.0","name":"net","type":"firewall"}"#,
        )
        .ok();
        assert!(sources().is_empty());
        assert_eq!(
            call(&host, OURS, "CHECK", "c1", &config).error().1,
            "failed to find the address 10.0.0.2/32 in trusted zone"
        );
        call(&host, OURS, "DEL", "c1", &config).ok();
    }
    let nowhere = config(
        "1.1.0",
        &["10.0.0.2/24"],
        &json!({"backend": "firewalld", "firewalldZone": "nowhere"}),
    );
    let (_, msg) = call(&host, OURS, "ADD", "c1", &nowhere).error();
    assert!(
        msg.starts_with("failed to add the address 10.0.0.2/32 to nowhere zone: "),
        "{msg}"
    );
}
