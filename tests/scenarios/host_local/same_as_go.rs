//! The same calls to ours and to Debian's Go plugin give the same bytes, files and messages.

use super::{GO, OURS, config, host};
use serde_json::{Value, json};
use tests::{Cni, Host};

/// One call of each, in a host of its own, with the same arguments.
fn both(verb: &str, args: &str, config: &str) -> [(Host, tests::Outcome); 2] {
    [OURS, GO].map(|path| {
        let host = host();
        host.run(|| std::fs::write("/run/resolv.conf", RESOLV_CONF))
            .expect("resolv.conf");
        let cni = Cni::new(path, "c1", "/none").with("CNI_ARGS", args);
        let outcome = cni.call(&host, verb, "host-local", config);
        (host, outcome)
    })
}

const RESOLV_CONF: &str = "nameserver 1.1.1.1 # c\nnameserver\n; x\ndomain a\ndomain b c\nsearch x y\nsearch z\noptions ndots:5 timeout:1\nfoo bar\n";

/// Names and bytes of everything that a plugin left in the store, except for our own folder beside it.
fn files(host: &Host) -> String {
    host.sh("cd /var/lib/cni/networks && find n -printf '%p %s\n' -type f -exec cat {} ';' -printf '\n' | sort; stat -c %A n n/lock")
}

pub fn results() {
    let v4 = json!({"subnet": "10.1.2.0/24"});
    let v6 = json!({"subnet": "fd00:1::/64"});
    for (ipam, args) in [
        (json!({"subnet": "10.1.2.0/24"}), ""),
        (json!({"ranges": [[v4], [v6]]}), ""),
        (
            json!({"ranges": [[v6], [v4]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00:1::9"}]}),
            "",
        ),
        (
            json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.20", "gateway": "10.1.2.254"}),
            "IgnoreUnknown=1;K8S_POD_NAME=x",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.0"}]], "gateway": "10.9.9.9"}),
            "",
        ),
        (json!({"subnet": "10.1.2.0/24"}), "IP=10.1.2.77"),
        (
            json!({"subnet": "10.1.2.0/24", "resolvConf": "/run/resolv.conf"}),
            "",
        ),
        (
            json!({"Ranges": [[{"SUBNET": "10.1.2.0/24"}]], "unknown": {"a": 1}, "routes": null}),
            "",
        ),
    ] {
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let [(ours_host, ours), (go_host, go)] =
                both("ADD", args, &config(version, ipam.clone()));
            let (ours, go) = (ours.ok(), go.ok());
            if version == "1.0.0" {
                // the Go library has sorted the keys of 1.0.0, and left out an empty dns, since its version 1.2; Debian's is older
                let (ours, mut go) = (ours.json(), go.json());
                if go["dns"] == json!({}) {
                    go.as_object_mut().expect("object").remove("dns");
                }
                assert_eq!(ours, go, "{version} {ipam}");
            } else {
                assert_eq!(ours.stdout, go.stdout, "{version} {ipam}");
            }
            assert_eq!(files(&ours_host), files(&go_host), "{version} {ipam}");
        }
    }
}

pub fn refusals() {
    let conf = |ipam: Value| config("1.0.0", ipam);
    let ranges = |ranges: Value| conf(json!({ "ranges": ranges }));
    let with = |key: &str, value: Value| {
        let mut config = json!({"cniVersion": "1.0.0", "name": "n", "type": "x", "ipam": {"subnet": "10.0.0.0/24"}});
        config[key] = value;
        config.to_string()
    };
    for (config, args) in [
        (conf(json!({"subnet": "10.0.0.5/24"})), ""),
        (conf(json!({"subnet": "10.0.0.0"})), ""),
        (conf(json!({"subnet": "10.0.0.0/33"})), ""),
        (conf(json!({"subnet": "10.0.0.0/24", "gateway": "x"})), ""),
        (
            conf(json!({"subnet": "10.0.0.0/24", "resolvConf": "/nope"})),
            "",
        ),
        (conf(json!({})), ""),
        (ranges(json!([[]])), ""),
        (ranges(json!([[{}]])), ""),
        (ranges(json!([[{"subnet": "10.0.0.0/31"}]])), ""),
        (ranges(json!([[{"subnet": "fd00::/128"}]])), ""),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]])),
            "",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]])),
            "",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]])),
            "",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}]])),
            "",
        ),
        (
            ranges(
                json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.3"}]]),
            ),
            "",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24", "rangeEnd": "fd00::1"}]])),
            "",
        ),
        (conf(json!({"subnet": "10.0.0.0/24"})), "IP=10.0.0.1"),
        (conf(json!({"subnet": "10.0.0.0/24"})), "IP=10.0.1.1"),
        (conf(json!({"subnet": "10.0.0.0/24"})), "IP=zz"),
        (conf(json!({"subnet": "10.0.0.0/24"})), "FOO=zz"),
        (conf(json!({"subnet": "10.0.0.0/24"})), "IP"),
        (with("runtimeConfig", json!({"ips": ["10.9.0.9/16"]})), ""),
        (with("args", json!({"cni": {"ips": ["10.0.0.1"]}})), ""),
        (
            with(
                "runtimeConfig",
                json!({"ipRanges": [[{"subnet": "10.0.0.0/25"}]]}),
            ),
            "",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "n", "type": "x"}).to_string(),
            "",
        ),
        (
            super::config(
                "0.2.0",
                json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}),
            ),
            "",
        ),
    ] {
        let [(_, ours), (_, go)] = both("ADD", args, &config);
        assert_eq!(ours.error(), go.error(), "{config} {args}");
    }
    let prev = json!({"cniVersion": "1.0.0"});
    let [(_, ours), (_, go)] = both("CHECK", "", &with("prevResult", prev));
    assert_eq!(ours.error(), go.error());
    // a wrong type is told as what it is; upstream calls it an internal error
    let [(_, ours), (_, go)] = both("ADD", "", &conf(json!({"ranges": "x"})));
    assert_eq!((ours.error().0, go.error().0), (6, 999));
}

/// Addresses are given in the same order, around the end of the range and after addresses came back.
pub fn order() {
    let config = config(
        "0.4.0",
        json!({"ranges": [[{"subnet": "10.1.2.0/29"}, {"subnet": "10.1.3.0/29"}], [{"subnet": "fd00::/125"}]]}),
    );
    let given = [OURS, GO].map(|path| {
        let host = host();
        let mut log = Vec::new();
        for step in 0..30 {
            let (verb, id) = if step % 3 == 2 {
                ("DEL", step - 2)
            } else {
                ("ADD", step)
            };
            let cni = Cni::new(path, &format!("c{id}"), "/none");
            log.push(cni.call(&host, verb, "host-local", &config).stdout);
        }
        (log, super::taken(&host))
    });
    let [ours, go] = given;
    assert_eq!(ours, go);
}
