//! The `static` IPAM plugin, compared with Debian's Go one.

use serde_json::{Value, json};
use tests::{
    Cni, Host,
    binaries::BIN,
    peers::{GO_PLUGINS, without_go_plugins},
    scenario,
};

fn config(version: &str) -> String {
    json!({"cniVersion": version, "name": "n", "type": "bridge", "ipam": {"type": "static",
        "addresses": [{"address": "10.10.0.5/24", "gateway": "10.10.0.254"}, {"address": "3ffe:ffff:0:1ff::1/64"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.5.1"}, {"dst": "3ffe:ffff:0:1ff::/64"}],
        "dns": {"nameservers": ["10.10.0.1"], "domain": "example.org", "search": ["a", "b"], "options": ["ndots:2"]}}})
    .to_string()
}

#[scenario(unless = without_go_plugins)]
fn results_equal_gos() {
    let host = Host::with_suite("node");
    for version in ["0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        for args in ["", "IgnoreUnknown=1;K8S_POD_NAME=x"] {
            let add = |path: &str| {
                Cni::new(path, "c", "/none")
                    .with("CNI_ARGS", args)
                    .call(&host, "ADD", "static", &config(version))
                    .ok()
                    .stdout
            };
            let (ours, go) = (add(BIN), add(GO_PLUGINS));
            // the Go library has sorted the keys of 1.0.0 since its version 1.2; Debian's is older
            if version == "1.0.0" {
                let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
                assert_eq!(parse(&ours), parse(&go), "{args}");
            } else {
                assert_eq!(ours, go, "{version} {args}");
            }
        }
    }
    // each source of addresses alone and with every other
    for sources in 0..16 {
        let has = |bit: u32| sources & (1 << bit) != 0;
        let mut config: Value = serde_json::from_str(&config("1.0.0")).expect("JSON");
        if has(0) {
            config["args"] = json!({"cni": {"ips": ["10.30.0.2/16"]}});
        }
        if has(1) {
            config["runtimeConfig"] = json!({"ips": ["10.40.0.2/16", "fd00::40/64"]});
        }
        let ip = if has(2) {
            "IP=10.10.0.9/24, 10.20.0.2/16"
        } else {
            "IP="
        };
        let gateway = if has(3) {
            ";GATEWAY=10.20.0.1,10.10.0.1,10.40.0.1"
        } else {
            ""
        };
        let add = |path: &str| {
            let cni = Cni::new(path, "c", "/none").with("CNI_ARGS", &format!("{ip}{gateway}"));
            cni.call(&host, "ADD", "static", &config.to_string())
                .ok()
                .json()
        };
        assert_eq!(add(BIN), add(GO_PLUGINS), "{ip}{gateway} {config}");
    }
    for verb in ["DEL", "DEL"] {
        Cni::new(BIN, "c", "")
            .call(&host, verb, "static", &config("1.0.0"))
            .ok();
    }
}

#[scenario]
fn invalid_addresses_are_refused() {
    let host = Host::with_suite("node");
    let add = |ipam: Value| {
        let config =
            json!({"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": ipam}).to_string();
        Cni::new(BIN, "c", "/none")
            .call(&host, "ADD", "static", &config)
            .error()
    };
    let (_, msg) = add(json!({"type": "static", "addresses": [{"address": "10.0.0.1"}]}));
    assert!(msg.contains("'10.0.0.1'"), "{msg}");
    let (_, msg) =
        add(json!({"type": "static", "addresses": [{"address": "10.0.0.1/8", "gateway": "x"}]}));
    assert!(msg.contains("x"), "{msg}");
    let two = config("1.0.0")
        .replace("3ffe:ffff:0:1ff::1/64", "10.10.0.6/24")
        .replace("\"1.0.0\"", "\"0.2.0\"");
    let (_, msg) = Cni::new(BIN, "c", "/none")
        .call(&host, "ADD", "static", &two)
        .error();
    assert_eq!(
        msg,
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
}
