//! podman with its CNI back end.

use runtimes::{image, machine};
use std::fs;
use tests::{scenario, shell::sh};

const CONF_LIST: &str = r#"{"name":"pods","cniVersion":"0.4.0","plugins":[
    {"type":"bridge","bridge":"cni1","isGateway":true,"ipMasq":true,"hairpinMode":true,
     "ipam":{"type":"host-local","ranges":[[{"subnet":"10.89.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// What podman needs on this machine, besides its network.
pub(super) const CONFIGURATION: &str = "[containers]\nseccomp_profile = \"unconfined\"\napparmor_profile = \"unconfined\"\n\
    default_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n\
    [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n";

pub(super) fn configure() {
    machine::install(machine::ours());
    fs::create_dir_all("/run/podman-cni").expect("folder");
    fs::write("/run/podman-cni/20-pods.conflist", CONF_LIST).expect("conf list");
    let configuration = format!(
        "{CONFIGURATION}[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\nnetwork_config_dir = \"/run/podman-cni\"\n",
        machine::BIN
    );
    fs::write("/run/containers.conf", configuration).expect("containers.conf");
}

pub(super) fn podman(arguments: &str) -> String {
    sh(&format!(
        "CONTAINERS_CONF=/run/containers.conf podman {arguments}"
    ))
}

#[scenario(unless = machine::missing)]
fn a_published_port_serves_until_removal() {
    configure();
    podman(&format!("load -q -i {}", image::ARCHIVE));
    podman(&format!(
        "run -d --name web --network pods -p 8090:80 {} sh -c 'hostname > /www/index.html; httpd -f -p 80 -h /www'",
        image::NAME
    ));
    let ip = podman("inspect -f '{{.NetworkSettings.Networks.pods.IPAddress}}' web");
    assert!(ip.starts_with("10.89.0."), "{ip}");
    let page = podman(&format!(
        "run --rm --network pods {} sh -c 'sleep 0.3; timeout 3 wget -q -O - http://{}/'",
        image::NAME,
        ip.trim()
    ));
    assert!(!page.trim().is_empty());
    let page_by_port = podman(&format!(
        "run --rm --network pods {} timeout 3 wget -q -O - http://10.89.0.1:8090/",
        image::NAME
    ));
    assert_eq!(page_by_port, page);
    podman("rm -f -t 0 web");
    nothing_left();
}

/// Asserts that no link, reservation or rule of a container is left.
#[track_caller]
fn nothing_left() {
    assert_eq!(sh("ip -o link show master cni1 || true"), "");
    assert_eq!(
        sh("ls /var/lib/cni/networks/pods | grep '^[0-9]' || true"),
        ""
    );
    let rules = sh("iptables-save -t nat; nft list ruleset 2>/dev/null || true");
    assert!(!rules.contains("10.89.0."), "{rules}");
}

#[scenario(unless = machine::missing)]
fn sixteen_containers_at_once_get_distinct_addresses() {
    configure();
    podman(&format!("load -q -i {}", image::ARCHIVE));
    let ips: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..16)
            .map(|number| {
                scope.spawn(move || {
                    podman(&format!(
                        "run -d --name many{number} --network pods {} sleep 1000",
                        image::NAME
                    ));
                    podman(&format!(
                        "inspect -f '{{{{.NetworkSettings.Networks.pods.IPAddress}}}}' many{number}"
                    ))
                })
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("thread"))
            .collect()
    });
    let mut distinct = ips.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 16, "{ips:?}");
    podman(&format!("exec many0 ping -c1 -W3 {}", ips[15].trim()));
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || podman(&format!("rm -f -t 0 many{number}")));
        }
    });
    nothing_left();
}

#[scenario(unless = machine::missing)]
fn a_restarted_container_keeps_its_host_port() {
    configure();
    podman(&format!("load -q -i {}", image::ARCHIVE));
    podman(&format!(
        "run -d --name again --network pods -p 8091:80 {} sh -c 'hostname > /www/index.html; httpd -f -p 80 -h /www'",
        image::NAME
    ));
    podman("restart -t 0 again");
    let page = podman(&format!(
        "run --rm --network pods {} sh -c 'sleep 0.3; timeout 3 wget -q -O - http://10.89.0.1:8091/'",
        image::NAME
    ));
    assert!(!page.trim().is_empty());
    podman("rm -f -t 0 again");
    nothing_left();
}
