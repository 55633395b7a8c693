//! The `bandwidth` plugin on a veth that the test creates.

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};
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
    host.sh(&format!(
        "ip link add host{name} mtu 1400 type veth peer name eth0 mtu 1400 netns {name}
         ip link set host{name} up && ip address add 10.0.0.1/32 peer 10.0.0.2 dev host{name}"
    ));
    pod.sh("ip link set eth0 up && ip address add 10.0.0.2/32 peer 10.0.0.1 dev eth0");
    pod
}

fn config(pod: &Pod, version: &str, extra: &Value) -> String {
    let mut config = json!({"cniVersion": version, "name": "net", "type": "bandwidth", "prevResult": {
        "cniVersion": version,
        "interfaces": [
            {"name": "br0"}, {"name": format!("host{}", pod.name)}, {"name": "eth0", "sandbox": pod.path()},
        ],
        "ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 2}],
    }});
    for (key, value) in extra.as_object().expect("object") {
        config[key] = value.clone();
    }
    config.to_string()
}

/// 8 and 16 Mbit/s, bursts of 10 kB.
fn both_ways() -> Value {
    json!({"ingressRate": 8_000_000, "ingressBurst": 80_000, "egressRate": 16_000_000, "egressBurst": 80_000})
}

fn ifbs(host: &Host) -> Vec<String> {
    let shown = host.sh("ip -o link show type ifb");
    let name = |line: &str| line.split(": ").nth(1).map(str::to_owned);
    shown.lines().filter_map(name).collect()
}

#[scenario(unless = without_go_plugins)]
fn result_and_kernel_state_equal_gos() {
    let host = host();
    for extra in [
        both_ways(),
        json!({"ingressRate": 1_000_000_000, "ingressBurst": 100_000_000}),
        json!({"egressRate": 100_000, "egressBurst": 8_000_000}),
        json!({"runtimeConfig": {"bandwidth": both_ways()}}),
    ] {
        let kernel = [SUITE, GO].map(|path| {
            let pod = pod(&host, "p");
            let config = config(&pod, "1.0.0", &extra);
            let cni = Cni::new(path, "c1", &pod.path());
            let mut added = cni.call(&host, "ADD", "bandwidth", &config).ok().json();
            if let Some(dns) = added.get("dns").cloned() {
                assert_eq!(dns, json!({}));
                added.as_object_mut().expect("result").remove("dns");
            }
            let name = added["interfaces"][3]["name"].as_str().unwrap_or("none").to_owned();
            if name != "none" {
                let mac = host.sh(&format!("cat /sys/class/net/{name}/address 2>/dev/null || ip -br link show {name} | awk '{{print $3}}'"));
                assert_eq!(added["interfaces"][3]["mac"], mac.trim());
                added["interfaces"][3]["mac"] = Value::Null;
            }
            cni.call(&host, "CHECK", "bandwidth", &config).ok();
            let mut shown = host.sh("tc qdisc show dev hostp");
            // Go's netlink library adds a second action, which no packet reaches
            shown += &host.sh(
                "tc filter show dev hostp parent ffff: | grep -v -e action -e 'index [0-9]* ref' -e '^$' || true",
            );
            shown += &host.sh(&format!("ip -d link show {name} 2>/dev/null | grep -o -e 'mtu [0-9]*' -e 'qlen [0-9]*' -e 'qdisc [a-z]*' -e '<.*>' || true"));
            shown += &host.sh(&format!("tc qdisc show dev {name} 2>/dev/null || true"));
            cni.with("CNI_NETNS", "").call(&host, "DEL", "bandwidth", &config).ok();
            assert!(ifbs(&host).is_empty(), "{path}");
            host.sh("ip link delete hostp");
            pod.delete();
            (added, shown)
        });
        let [ours, go] = kernel;
        assert_eq!(ours.0, go.0);
        assert_eq!(ours.1, go.1);
    }
}

/// How long it takes to move 300 kB.
fn duration(
    receiver: impl FnOnce(TcpListener) + Send,
    listen: &str,
    from: &Pod<'_>,
    to_host: bool,
) -> Duration {
    let start = |f: &(dyn Fn() -> TcpListener + Sync)| match to_host {
        true => from.host.run(f),
        false => from.run(f),
    };
    let listener = start(&|| TcpListener::bind((listen, 5000)).expect("listen"));
    let send = || {
        let mut stream = TcpStream::connect((listen, 5000)).expect("connect");
        stream.write_all(&vec![7; 300_000]).expect("send");
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| match to_host {
            true => from.run(send),
            false => from.host.run(send),
        });
        receiver(listener);
    });
    begin.elapsed()
}

#[scenario]
fn limits_hold_in_both_directions() {
    let host = host();
    let pod = pod(&host, "p");
    let receive = |listener: TcpListener| {
        let mut received = Vec::new();
        let (mut stream, _) = listener.accept().expect("connection");
        stream.read_to_end(&mut received).expect("receive");
        assert_eq!(received.len(), 300_000);
    };
    let cni = Cni::new(SUITE, "c1", &pod.path());
    let config = config(&pod, "1.0.0", &both_ways());
    cni.call(&host, "ADD", "bandwidth", &config).ok();
    // 300 kB less the burst at 1 and 2 MB/s; on a busy machine only the lower bound is certain
    let towards = duration(receive, "10.0.0.2", &pod, false);
    assert!(towards > Duration::from_millis(250), "{towards:?}");
    let from = duration(receive, "10.0.0.1", &pod, true);
    assert!(from > Duration::from_millis(125), "{from:?}");
}

#[scenario]
fn check_reports_each_missing_or_different_part() {
    let host = host();
    let pod = pod(&host, "p");
    let cni = Cni::new(SUITE, "c1", &pod.path());
    // without limits, prevResult is passed on
    let unlimited = config(&pod, "1.1.0", &json!({}));
    let added = cni.call(&host, "ADD", "bandwidth", &unlimited).ok().json();
    assert_eq!(added["interfaces"].as_array().map(Vec::len), Some(3));
    cni.call(&host, "CHECK", "bandwidth", &unlimited).ok();
    assert!(ifbs(&host).is_empty());
    let conf = config(&pod, "1.1.0", &both_ways());
    cni.call(&host, "ADD", "bandwidth", &conf).ok();
    let ifb = ifbs(&host).remove(0);
    let call = |conf: &str| cni.call(&host, "CHECK", "bandwidth", conf);
    call(&conf).ok();
    let faster = |key: &str, value: u64| {
        let mut extra = both_ways();
        extra[key] = value.into();
        call(&config(&pod, "1.1.0", &extra)).error().1
    };
    assert_eq!(faster("ingressRate", 9_000_000), "Rate doesn't match");
    assert_eq!(faster("egressBurst", 90_000), "Limit doesn't match");
    host.sh("tc qdisc delete dev hostp ingress");
    assert_eq!(
        call(&conf).error().1,
        "Failed to find ingress qdisc on hostp"
    );
    host.sh(&format!("tc qdisc delete dev {ifb} root"));
    assert_eq!(call(&conf).error().1, "Failed to find qdisc");
    host.sh(&format!("ip link delete {ifb}"));
    assert_eq!(
        call(&conf).error().1,
        format!("get ifb device: {ifb}: Link not found")
    );
    host.sh("tc qdisc delete dev hostp root");
    assert_eq!(call(&conf).error().1, "Failed to find qdisc");
    // a second ADD replaces what is left of the first
    cni.call(&host, "ADD", "bandwidth", &conf).ok();
    call(&conf).ok();
}

#[scenario]
fn a_refused_step_leaves_the_previous_state() {
    let host = host();
    let pod = pod(&host, "p");
    let cni = Cni::new(SUITE, "c1", &pod.path());
    let conf = config(&pod, "1.0.0", &both_ways());
    host.sh("tc qdisc add dev hostp ingress");
    let (_, msg) = cni.call(&host, "ADD", "bandwidth", &conf).error();
    assert!(msg.starts_with("create ingress qdisc: "), "{msg}");
    assert!(ifbs(&host).is_empty());
    let shown = host.sh("tc qdisc show dev hostp");
    assert!(
        shown.contains("ingress") && !shown.contains("tbf"),
        "{shown}"
    );
    host.sh("tc qdisc delete dev hostp ingress && tc qdisc add dev hostp root handle 1: tbf rate 1mbit burst 10k latency 5ms");
    let (_, msg) = cni.call(&host, "ADD", "bandwidth", &conf).error();
    assert!(msg.starts_with("create qdisc: "), "{msg}");
    assert!(ifbs(&host).is_empty());
    let shown = host.sh("tc qdisc show dev hostp");
    assert!(
        !shown.contains("ingress") && shown.contains("rate 1Mbit"),
        "{shown}"
    );
}

#[scenario]
fn gc_removes_only_ifb_devices_without_a_valid_attachment() {
    let host = host();
    let pods = ["a", "b"].map(|name| pod(&host, name));
    for (pod, id) in pods.iter().zip(["stale", "valid"]) {
        let conf = config(pod, "1.1.0", &both_ways());
        Cni::new(SUITE, id, &pod.path())
            .call(&host, "ADD", "bandwidth", &conf)
            .ok();
    }
    let foreign = "bwp0123456789ab";
    host.sh(&format!("ip link add {foreign} type ifb"));
    assert_eq!(ifbs(&host).len(), 3);
    let collect = |name: &str, valid: Value| {
        let conf = json!({"cniVersion": "1.1.0", "name": name, "type": "bandwidth", "cni.dev/valid-attachments": valid});
        Cni::new(SUITE, "", "")
            .call(&host, "GC", "bandwidth", &conf.to_string())
            .ok();
        ifbs(&host).len()
    };
    let valid = json!([{"containerID": "valid", "ifname": "eth0"}]);
    assert_eq!(collect("other", json!([])), 3);
    assert_eq!(collect("net", valid), 2);
    assert_eq!(collect("net", json!([])), 1);
    assert_eq!(ifbs(&host), [foreign]);
    let without_list = json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth"});
    Cni::new(SUITE, "", "")
        .call(&host, "GC", "bandwidth", &without_list.to_string())
        .ok();
}

#[scenario]
fn invalid_limits_and_results_without_a_veth_are_refused() {
    let host = host();
    let pod = pod(&host, "p");
    let cni = Cni::new(SUITE, "c1", &pod.path());
    let add = |conf: &str| cni.call(&host, "ADD", "bandwidth", conf).error();
    assert_eq!(
        add(&config(&pod, "1.0.0", &json!({"ingressRate": 8}))),
        (999, "if rate is set, burst must also be set".into())
    );
    let unchained = json!({"cniVersion": "1.0.0", "name": "net", "type": "bandwidth"});
    assert_eq!(
        add(&unchained.to_string()).1,
        "must be called as chained plugin"
    );
    let mut changed: Value =
        serde_json::from_str(&config(&pod, "1.0.0", &both_ways())).expect("JSON");
    changed["prevResult"]["interfaces"][1]["name"] = "other".into();
    assert_eq!(
        add(&changed.to_string()).1,
        "no veth peer of container interface found in host ns"
    );
    changed["prevResult"]["interfaces"] = json!([]);
    assert_eq!(add(&changed.to_string()).1, "no interfaces provided");
    pod.sh("ip link delete eth0");
    let (_, msg) = add(&config(&pod, "1.0.0", &both_ways()));
    assert!(
        msg.starts_with("container interface eth0 has no veth peer: "),
        "{msg}"
    );
    // results have interfaces since 0.3.0
    assert_eq!(add(&config(&pod, "0.2.0", &json!({}))).0, 1);
    let status =
        json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth", "egressRate": 8});
    let outcome = cni.call(&host, "STATUS", "bandwidth", &status.to_string());
    assert_eq!(
        outcome.error(),
        (50, "if rate is set, burst must also be set".into())
    );
    // DEL does not read the limits
    cni.call(
        &host,
        "DEL",
        "bandwidth",
        &config(&pod, "1.0.0", &json!({"ingressRate": 8})),
    )
    .ok();
}
