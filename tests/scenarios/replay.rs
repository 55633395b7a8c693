//! The calls of containerd 2.1: STATUS with every other variable present but empty, ADD with its
//! arguments in any order, DEL with prevResult, and at the removal of the sandbox a second DEL
//! without prevResult and namespace.

use serde_json::{Value, json};
use tests::{Cni, Host, binaries::BIN, scenario};

const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/48\n\
    FLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
const ARGS: [&str; 5] = [
    "K8S_POD_NAME=web-0",
    "IgnoreUnknown=1",
    "K8S_POD_INFRA_CONTAINER_ID=3f1c",
    "K8S_POD_UID=2b7e",
    "K8S_POD_NAMESPACE=default",
];

fn config(plugin: &str, version: &str, extra: &[(&str, Value)]) -> String {
    let mut config = match plugin {
        "flannel" => json!({"delegate": {"hairpinMode": true, "isDefaultGateway": true}}),
        "portmap" => {
            json!({"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""}]}})
        }
        _ => json!({}),
    };
    config["name"] = "cbr0".into();
    config["cniVersion"] = version.into();
    config["type"] = plugin.into();
    for (key, value) in extra {
        config[*key] = value.clone();
    }
    config.to_string()
}

#[scenario]
fn calls_of_containerd_2_1_attach_and_detach_a_pod() {
    let host = Host::with_suite("node");
    let status = Cni::new(BIN, "", "")
        .with("CNI_IFNAME", "")
        .with("CNI_ARGS", "");
    let no_subnet_yet = status.call(&host, "STATUS", "flannel", &config("flannel", "1.1.0", &[]));
    assert_eq!(no_subnet_yet.error().0, 50, "{no_subnet_yet:?}");
    host.run(|| {
        std::fs::create_dir_all("/run/flannel")
            .and_then(|()| std::fs::write("/run/flannel/subnet.env", SUBNET_ENV))
    })
    .expect("subnet.env");
    for plugin in ["flannel", "portmap"] {
        status
            .call(&host, "STATUS", plugin, &config(plugin, "1.1.0", &[]))
            .ok();
    }

    for version in ["0.3.1", "1.0.0", "1.1.0"] {
        for shift in 0..ARGS.len() {
            let mut args = ARGS;
            args.rotate_left(shift);
            let pod = host.pod("pod");
            let cni = Cni::new(BIN, "3f1c", &pod.path()).with("CNI_ARGS", &args.join(";"));
            let result = cni
                .call(&host, "ADD", "flannel", &config("flannel", version, &[]))
                .ok()
                .json();
            let prev = [("prevResult", result.clone())];
            let chained = cni
                .call(&host, "ADD", "portmap", &config("portmap", version, &prev))
                .ok()
                .json();
            assert_eq!(chained, result, "portmap passes the result on");
            assert!(
                result["ips"].as_array().is_some_and(|ips| ips.len() == 2),
                "{result}"
            );

            // 0.3.1 has no prevResult in DEL
            let prev = if version == "0.3.1" {
                &[][..]
            } else {
                &prev[..]
            };
            for plugin in ["portmap", "flannel"] {
                let outcome = cni
                    .call(&host, "DEL", plugin, &config(plugin, version, prev))
                    .ok();
                assert_eq!(outcome.stdout, "", "DEL prints nothing");
            }
            pod.delete();
            let second = cni.with("CNI_NETNS", "");
            for plugin in ["portmap", "flannel"] {
                second
                    .call(&host, "DEL", plugin, &config(plugin, version, &[]))
                    .ok();
            }
            assert_clean(&host);
        }
    }
}

#[track_caller]
fn assert_clean(host: &Host) {
    assert_eq!(host.sh("ip -o link show master cni0"), "");
    assert_eq!(host.sh("ls /var/lib/cni/flannel"), "");
    assert_eq!(
        host.sh("cd /var/lib/cni/networks/cbr0 && ls | grep -e '^10' -e '^fd' || true"),
        ""
    );
    let rules = host.sh("nft list ruleset");
    assert!(
        !rules.contains("8080") && !rules.contains("10.244.3."),
        "{rules}"
    );
}

#[scenario]
fn calls_of_containerd_2_1_set_loopback_up_and_down() {
    let host = Host::with_suite("node");
    let pod = host.pod("pod");
    pod.sh("ip link set lo down");
    let conf =
        json!({"name": "cni-loopback", "cniVersion": "1.1.0", "type": "loopback"}).to_string();
    let cni = Cni::new(BIN, "3f1c", &pod.path()).with("CNI_IFNAME", "lo");
    let result = cni.call(&host, "ADD", "loopback", &conf).ok().json();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    pod.sh("ping -c1 -W1 127.0.0.1");
    cni.call(&host, "DEL", "loopback", &conf).ok();
    pod.delete();
    cni.with("CNI_NETNS", "")
        .call(&host, "DEL", "loopback", &conf)
        .ok();
}
