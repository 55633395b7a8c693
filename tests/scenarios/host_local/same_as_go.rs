//! The suite and Debian's Go plugin give the same results, files and messages.

use super::{SUITE, UPSTREAM, config, host};
use serde_json::{Value, json};
use tests::{Cni, Host, scenario};

/// The same call of both plugins, each on a host of its own.
fn both(verb: &str, args: &str, config: &str) -> [(Host, tests::Outcome); 2] {
    [SUITE, UPSTREAM].map(|path| {
        let host = host();
        host.run(|| std::fs::write("/run/resolv.conf", RESOLV_CONF))
            .expect("resolv.conf");
        let cni = Cni::new(path, "c1", "/none").with("CNI_ARGS", args);
        let outcome = cni.call(&host, verb, "host-local", config);
        (host, outcome)
    })
}

const RESOLV_CONF: &str = "nameserver 1.1.1.1 # c\nnameserver\n; x\ndomain a\ndomain b c\nsearch x y\nsearch z\noptions ndots:5 timeout:1\nfoo bar\n";

/// Names and contents of all files in the store.
fn files(host: &Host) -> String {
    host.sh("cd /var/lib/cni/networks && find n -printf '%p %s\n' -type f -exec cat {} ';' -printf '\n' | sort; stat -c %A n n/lock")
}

#[scenario]
fn results_and_files_equal_upstreams() {
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
            let [(suite_host, suite), (upstream_host, upstream)] =
                both("ADD", args, &config(version, ipam.clone()));
            let (suite, upstream) = (suite.ok(), upstream.ok());
            if version == "1.0.0" {
                // Go library 1.2 and later sorts keys and omits an empty dns; Debian's is older
                let (suite, mut upstream) = (suite.json(), upstream.json());
                if upstream["dns"] == json!({}) {
                    upstream.as_object_mut().expect("object").remove("dns");
                }
                assert_eq!(suite, upstream, "{version} {ipam}");
            } else {
                assert_eq!(suite.stdout, upstream.stdout, "{version} {ipam}");
            }
            assert_eq!(
                files(&suite_host),
                files(&upstream_host),
                "{version} {ipam}"
            );
        }
    }
}

#[scenario]
fn refusals_equal_upstreams() {
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
            config(
                "0.2.0",
                json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}),
            ),
            "",
        ),
    ] {
        let [(_, suite), (_, upstream)] = both("ADD", args, &config);
        assert_eq!(suite.error(), upstream.error(), "{config} {args}");
    }
    let prev = json!({"cniVersion": "1.0.0"});
    let [(_, suite), (_, upstream)] = both("CHECK", "", &with("prevResult", prev));
    assert_eq!(suite.error(), upstream.error());
    // a wrong type is a decoding error; upstream calls it an internal error
    let [(_, suite), (_, upstream)] = both("ADD", "", &conf(json!({"ranges": "x"})));
    assert_eq!((suite.error().0, upstream.error().0), (6, 999));
}

/// Also after the end of the range and after the release of addresses.
#[scenario]
fn order_of_addresses_equals_upstreams() {
    let config = config(
        "0.4.0",
        json!({"ranges": [[{"subnet": "10.1.2.0/29"}, {"subnet": "10.1.3.0/29"}], [{"subnet": "fd00::/125"}]]}),
    );
    let given = [SUITE, UPSTREAM].map(|path| {
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
    let [suite, upstream] = given;
    assert_eq!(suite, upstream);
}

/// What both read in the same way, and what docs/differences.md has under "host-local's store".
#[scenario]
fn odd_values_are_read_as_upstream_or_as_documented() {
    let subnet = json!({"subnet": "10.1.2.0/24"});
    // an empty request is none
    for outcome in both("ADD", "IP=", &config("1.0.0", subnet)) {
        assert_eq!(address_of(&outcome), "10.1.2.2/24");
    }

    let mapped = config("1.0.0", json!({"subnet": "::ffff:10.1.0.0/120"}));
    let [suite, upstream] = both("ADD", "", &mapped);
    assert_eq!(address_of(&suite), "10.1.0.2/24");
    upstream.1.error();

    for route in [json!({}), json!({"dst": ""})] {
        let ipam = json!({"subnet": "10.1.2.0/24", "routes": [route]});
        let [suite, _] = both("ADD", "", &config("1.0.0", ipam));
        let (_, message) = suite.1.error();
        assert!(message.contains("dst"), "{message}");
    }
    let ipam = json!({"subnet": "10.1.2.0/24", "routes": [{}]});
    let [_, upstream] = both("ADD", "", &config("1.0.0", ipam));
    upstream.1.ok();

    let twice = |first: &str, second: &str| {
        format!(
            r#"{{"cniVersion":"1.0.0","name":"n","type":"bridge","ipam":{first},"IPAM":{second}}}"#
        )
    };
    let whole = r#"{"type":"host-local","subnet":"10.1.2.0/24"}"#;
    let part = r#"{"gateway":"10.1.2.9"}"#;
    let [suite, upstream] = both("ADD", "", &twice(whole, part));
    suite.1.error();
    assert_eq!(address_of(&upstream), "10.1.2.1/24");
    let [suite, _] = both("ADD", "", &twice(part, whole));
    assert_eq!(address_of(&suite), "10.1.2.2/24");
    // of values that are no objects, the last one counts with both
    let scalars = r#"{"subnet":"10.9.9.0/24","Subnet":"10.1.2.0/24"}"#;
    for outcome in both("ADD", "", &twice("null", scalars)) {
        assert_eq!(address_of(&outcome), "10.1.2.2/24");
    }
}

#[track_caller]
fn address_of((_, outcome): &(Host, tests::Outcome)) -> String {
    let result = outcome.clone().ok().json();
    result["ips"][0]["address"]
        .as_str()
        .expect("address")
        .to_owned()
}
