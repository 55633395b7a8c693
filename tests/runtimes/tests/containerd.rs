//! Pods over containerd's CRI, as kubelet asks for them.

use runtimes::{
    containerd::{Containerd, Cri, Pod},
    machine,
};
use std::{fs, time::Duration};
use tests::{process::eventually, scenario, shell::sh};

/// The conf list that ships.
const FLANNEL: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");
/// A list that Debian's Go plugins support too: they have no flannel.
const BRIDGE: &str = r#"{"name":"cbr0","cniVersion":"0.4.0","plugins":[
    {"type":"bridge","bridge":"cni0","isDefaultGateway":true,"hairpinMode":true,"ipMasq":true,
     "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.7.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}]}},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
const STORE: &str = "/var/lib/cni/networks/cbr0";

fn with_flannel() -> (Containerd, Cri) {
    machine::install(machine::ours());
    machine::configure(FLANNEL);
    fs::write("/run/flannel/subnet.env", SUBNET_ENV).expect("subnet.env");
    let containerd = Containerd::start();
    containerd.import();
    (containerd, Cri::connect())
}

/// Asserts that no link, reservation or rule of a pod is left.
#[track_caller]
fn nothing_left() {
    assert_eq!(sh("ip -o link show master cni0 2>/dev/null || true"), "");
    let reservations = sh(&format!("cd {STORE} && ls | grep '^[0-9]' || true"));
    assert_eq!(reservations, "");
    assert_eq!(sh("ls /var/lib/cni/flannel 2>/dev/null || true"), "");
    let rules = sh("iptables-save -t nat; nft list ruleset 2>/dev/null || true");
    assert!(!rules.contains("10.244.7."), "{rules}");
}

#[track_caller]
fn serves(cri: &mut Cri, from: &Pod, address: &str, name: &str) {
    let page = cri
        .exec(from, &format!("timeout 3 wget -q -O - http://{address}/"))
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    assert_eq!(page.trim(), name);
}

#[scenario(unless = machine::missing)]
fn pods_reach_each_other_and_host_ports() {
    let (containerd, mut cri) = with_flannel();
    let a = cri
        .run_pod("a", &[(8081, 80)])
        .unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    let b = cri.run_pod("b", &[]).expect("pod b");
    assert!(a.ip.starts_with("10.244.7."), "{a:?}");
    eventually("httpd", Duration::from_secs(5), || {
        cri.exec(&b, &format!("wget -q -O - http://{}/", a.ip)).ok()
    });
    cri.exec(&b, &format!("ping -c1 -W2 {}", a.ip))
        .expect("ping");
    serves(&mut cri, &b, &a.ip, "a");
    serves(&mut cri, &b, "10.244.7.1:8081", "a");
    // needs hairpin mode on the bridge port
    serves(&mut cri, &a, "10.244.7.1:8081", "a");
    for pod in [&a, &b] {
        cri.remove(pod).expect("remove");
    }
    nothing_left();
    containerd.stop();
}

#[scenario(unless = machine::missing)]
fn sixteen_pods_at_once_get_distinct_addresses() {
    let (containerd, mut cri) = with_flannel();
    let names: Vec<String> = (0..16).map(|number| format!("pod{number}")).collect();
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let started: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| Cri::connect().run_pod(name, &[])))
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("thread").expect("pod"))
            .collect()
    });
    let mut ips: Vec<_> = pods.iter().map(|pod| pod.ip.clone()).collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 16, "{ips:?}");
    cri.exec(&pods[0], &format!("ping -c1 -W2 {}", pods[15].ip))
        .expect("ping");
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| Cri::connect().remove(pod).expect("remove"));
        }
    });
    nothing_left();
    containerd.stop();
}

#[scenario(unless = machine::missing)]
fn pods_survive_a_restart_of_containerd() {
    let (containerd, mut cri) = with_flannel();
    let pod = cri.run_pod("stays", &[(8082, 80)]).expect("pod");
    containerd.stop();
    let containerd = Containerd::start();
    let mut cri = Cri::connect();
    let other = cri.run_pod("other", &[]).expect("pod");
    assert_ne!(pod.ip, other.ip);
    eventually("the pod still serves", Duration::from_secs(5), || {
        cri.exec(&other, "wget -q -O - http://10.244.7.1:8082/")
            .ok()
    });
    for pod in [&pod, &other] {
        cri.remove(pod).expect("remove");
    }
    nothing_left();
    containerd.stop();
}

#[scenario(unless = machine::missing)]
fn a_pod_starts_once_subnet_env_exists() {
    let (containerd, mut cri) = with_flannel();
    fs::remove_file("/run/flannel/subnet.env").expect("remove");
    let error = cri
        .run_pod("early", &[])
        .expect_err("there is no subnet yet");
    assert!(error.contains("subnet.env"), "{error}");
    fs::write("/run/flannel/subnet.env", SUBNET_ENV).expect("subnet.env");
    let pod = cri.run_pod("early", &[]).expect("pod");
    cri.remove(&pod).expect("remove");
    nothing_left();
    containerd.stop();
}

#[scenario(unless = machine::missing)]
fn go_and_our_plugins_take_over_from_each_other() {
    machine::install(machine::go());
    machine::configure(BRIDGE);
    let containerd = Containerd::start();
    containerd.import();
    let mut cri = Cri::connect();
    let by_go = cri
        .run_pod("by-go", &[(8083, 80)])
        .unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    let also_by_go = cri.run_pod("also-by-go", &[]).expect("pod");

    machine::install(machine::ours());
    let by_ours = cri
        .run_pod("by-ours", &[(8084, 80)])
        .unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    let also_by_ours = cri.run_pod("also-by-ours", &[]).expect("pod");
    let mut ips = vec![
        by_go.ip.clone(),
        also_by_go.ip.clone(),
        by_ours.ip.clone(),
        also_by_ours.ip.clone(),
    ];
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 4, "one store for both: {ips:?}");
    eventually("httpd", Duration::from_secs(5), || {
        cri.exec(&by_ours, "wget -q -O - http://10.244.7.1:8083/")
            .ok()
    });
    serves(&mut cri, &by_ours, "10.244.7.1:8083", "by-go");
    serves(&mut cri, &by_go, "10.244.7.1:8084", "by-ours");
    cri.remove(&by_go).expect("remove a pod of the Go plugins");

    machine::install(machine::go());
    serves(&mut cri, &also_by_go, "10.244.7.1:8084", "by-ours");
    cri.remove(&also_by_ours)
        .expect("remove a pod of ours by the Go plugins");
    cri.remove(&also_by_go).expect("remove");
    machine::install(machine::ours());
    cri.remove(&by_ours).expect("remove");
    nothing_left();
    containerd.stop();
}
