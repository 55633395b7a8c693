//! `kubectl apply` of the manifest over Go flannel's and back, and its configuration in use.

use super::{DEPLOY, NAMESPACE, manifest, objects, of_kind, of_upstream, without_upstream};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command, time::Duration};
use tests::{
    ApiServer, Host,
    binaries::{BIN, program},
    kubernetes::without_kubernetes,
    process::eventually,
    scenario,
};

/// Applies a file, or a kustomization.
#[track_caller]
pub(super) fn apply(server: &ApiServer, path: &Path) -> String {
    let option = if path.is_dir() { "-k" } else { "-f" };
    let path = path.to_str().expect("UTF-8");
    server.kubectl(&["apply", option, path])
}

/// The namespaced objects of an installation and the cluster's, without what changes by itself.
#[track_caller]
pub(super) fn installed(server: &ApiServer) -> Value {
    let namespaced = ["-n", NAMESPACE, "get", "daemonset,configmap,serviceaccount"];
    let cluster = [
        "get",
        "clusterrole,clusterrolebinding",
        "-l",
        "k8s-app=flannel",
    ];
    let mut lists = [namespaced.as_slice(), &cluster].map(|arguments| {
        let text = server.kubectl(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str::<Value>(&text).expect("JSON")
    });
    for object in lists
        .iter_mut()
        .flat_map(|list| list["items"].as_array_mut())
        .flatten()
    {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for field in ["generation", "resourceVersion", "annotations"] {
            metadata.remove(field);
        }
    }
    json!(lists)
}

/// The daemon set of an installation.
#[track_caller]
pub(super) fn daemon_set(server: &ApiServer) -> Value {
    let get = [
        "-n",
        NAMESPACE,
        "get",
        "daemonset",
        "kube-flannel-ds",
        "-o",
        "json",
    ];
    serde_json::from_str(&server.kubectl(&get)).expect("JSON")
}

/// Asserts that both ways between two installations lead to the same objects as before, and that
/// the daemon set stays one object, so that its pods are replaced one by one.
#[track_caller]
fn assert_both_ways(server: &ApiServer, upstream: &Path, ours: &Path) {
    apply(server, upstream);
    let (by_upstream, uid) = (
        installed(server),
        daemon_set(server)["metadata"]["uid"].clone(),
    );
    apply(server, ours);
    let by_ours = installed(server);
    assert_eq!(daemon_set(server)["metadata"]["uid"], uid);
    apply(server, upstream);
    assert_eq!(installed(server), by_upstream, "upstream's again");
    apply(server, ours);
    assert_eq!(installed(server), by_ours, "ours again");
    assert_eq!(daemon_set(server)["metadata"]["uid"], uid);
}

#[scenario(unless = without_upstream)]
fn apply_replaces_go_flannel_and_leads_back() {
    let server = ApiServer::new();
    let upstream = of_upstream("Documentation/kube-flannel.yml");
    apply(&server, &upstream);
    assert_dry_run_changes_nothing(&server);
    assert_both_ways(&server, &upstream, &manifest());
    let rules = |list: &Value| list[1]["items"][0]["rules"].clone();
    let ours = installed(&server);
    apply(&server, &upstream);
    assert_eq!(rules(&ours), rules(&installed(&server)), "RBAC");
}

/// What `--dry-run=server` says about a change is what a user sees before the migration.
#[track_caller]
fn assert_dry_run_changes_nothing(server: &ApiServer) {
    let before = installed(server);
    let path = manifest();
    let path = path.to_str().expect("UTF-8");
    let answer = server.kubectl(&["apply", "--dry-run=server", "-f", path]);
    let changed = "daemonset.apps/kube-flannel-ds configured";
    assert!(answer.contains(changed), "{answer}");
    assert_eq!(installed(server), before);
}

/// That kustomization adds its label to the selector, which nothing can change later.
#[scenario(unless = without_upstream)]
fn upstream_labels_replaces_go_flannels_kustomization() {
    let server = ApiServer::new();
    let upstream = of_upstream("Documentation/kustomization/kube-flannel");
    assert_both_ways(
        &server,
        &upstream,
        &Path::new(DEPLOY).join("kustomize/upstream-labels"),
    );
}

/// `make image` names its image after the version.
#[scenario]
fn every_file_names_the_image_of_this_version() {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let image = format!("localhost/flannel:{version}");
    for file in [
        "kube-flannel.yml",
        "kube-flannel-cleanup.yml",
        "kustomize/data-path/data-path.yml",
    ] {
        let text = fs::read_to_string(Path::new(DEPLOY).join(file)).expect(file);
        let images = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image: "));
        for found in images {
            assert_eq!(found, image, "{file}");
        }
    }
    for (file, line) in [
        ("helm/flannel/values.yaml", format!("    tag: {version}")),
        ("helm/flannel/Chart.yaml", format!("appVersion: {version}")),
        (
            "helm/flannel/Chart.yaml",
            format!("version: {}", &version[1..]),
        ),
    ] {
        let text = fs::read_to_string(Path::new(DEPLOY).join(file)).expect(file);
        assert!(text.lines().any(|found| found == line), "{file}: {line}");
    }
}

#[scenario(unless = without_kubernetes)]
fn every_container_is_confined() {
    let server = ApiServer::pooled();
    let objects = objects(&server, &fs::read_to_string(manifest()).expect("manifest"));
    let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let containers = [&pod["initContainers"], &pod["containers"]];
    let containers: Vec<_> = containers
        .iter()
        .flat_map(|list| list.as_array())
        .flatten()
        .collect();
    assert_eq!(containers.len(), 3);
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(
            context["capabilities"]["drop"],
            json!(["ALL"]),
            "{container}"
        );
        let command = container["command"][0].as_str().expect("command");
        assert!(command.starts_with("/opt/bin/"), "no shell: {container}");
        assert_eq!(
            container["image"], pod["containers"][0]["image"],
            "one image"
        );
    }
    assert_eq!(
        pod["containers"][0]["resources"]["limits"],
        json!({"memory": "64Mi"})
    );
}

/// flanneld and the plugins read what the ConfigMap has: a pod gets an address of the network.
#[scenario(unless = without_kubernetes)]
fn the_config_map_is_valid_for_flanneld_and_the_plugins() {
    let server = ApiServer::pooled();
    let objects = objects(&server, &fs::read_to_string(manifest()).expect("manifest"));
    let data = &of_kind(&objects, "ConfigMap")["data"];
    let text = |key: &str| data[key].as_str().expect("text");
    let host = Host::with_suite("node");
    host.sh("ip link add eth0 type veth peer name peer && ip addr add 10.0.0.1/24 dev eth0 && ip link set eth0 up && ip link set peer up && ip route add default dev eth0");
    let _daemon = start_flanneld(&host, text("net-conf.json"));
    let cnitool = format!(
        "CNI_PATH={BIN} NETCONFPATH=/run/net.d {}",
        program("cnitool").display()
    );
    host.write("/run/net.d/10-flannel.conflist", text("cni-conf.json"));
    eventually("STATUS succeeds", Duration::from_secs(10), || {
        host.try_sh(&format!("{cnitool} status cbr0"))
            .status
            .success()
            .then_some(())
    });
    let pod = host.pod("pod");
    let result = host.sh(&format!("{cnitool} add cbr0 {}", pod.path()));
    let result: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(result["cniVersion"], "1.1.0", "the newest of cniVersions");
    let address = result["ips"][0]["address"].as_str().expect("address");
    assert!(address.starts_with("10.244."), "{address}");
}

/// flanneld with leases of its own and a network configuration.
fn start_flanneld(host: &Host, net_conf: &str) -> tests::Process {
    host.write("/run/net-conf.json", net_conf);
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-listen=127.0.0.1:8888",
        "-net-config-path=/run/net-conf.json",
        "-iface=eth0",
    ]);
    host.spawn(command)
}
