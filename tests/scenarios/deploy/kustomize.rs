//! The kustomizations.

use super::{DEPLOY, manifest, objects, of_kind};
use serde_json::Value;
use std::{fs, path::Path};
use tests::{ApiServer, kubernetes::without_kubernetes, scenario};

/// The objects of `kubectl kustomize`.
#[track_caller]
fn built(server: &ApiServer, name: &str) -> Vec<Value> {
    let folder = Path::new(DEPLOY).join("kustomize").join(name);
    let yaml = server.kubectl(&["kustomize", folder.to_str().expect("UTF-8")]);
    objects(server, &yaml)
}

/// kustomize reads no file outside of its folder.
#[scenario]
fn the_base_has_a_copy_of_the_manifest() {
    let copy = Path::new(DEPLOY).join("kustomize/base/kube-flannel.yml");
    let [copy, manifest] = [copy, manifest()].map(|path| fs::read_to_string(path).expect("file"));
    assert!(
        copy == manifest,
        "cp deploy/kube-flannel.yml deploy/kustomize/base/"
    );
}

#[scenario(unless = without_kubernetes)]
fn the_base_is_the_manifest() {
    let server = ApiServer::pooled();
    let sorted = |mut objects: Vec<Value>| {
        objects.sort_by_key(|object| object["kind"].to_string());
        objects
    };
    let manifest = fs::read_to_string(manifest()).expect("manifest");
    assert_eq!(
        sorted(built(&server, "base")),
        sorted(objects(&server, &manifest))
    );
}

#[scenario(unless = without_kubernetes)]
fn the_overlays_change_what_they_name() {
    let server = ApiServer::pooled();
    let dual_stack = built(&server, "dual-stack");
    let config = of_kind(&dual_stack, "ConfigMap")["data"]["net-conf.json"].as_str();
    let config: Value = serde_json::from_str(config.expect("net-conf.json")).expect("JSON");
    assert_eq!(config["EnableIPv6"], true);
    assert_eq!(config["Network"], "10.244.0.0/16");
    assert_eq!(config["Backend"]["Type"], "vxlan");
    let labels = built(&server, "upstream-labels");
    let spec = &of_kind(&labels, "DaemonSet")["spec"];
    let expected = serde_json::json!({"app": "flannel", "k8s-app": "flannel"});
    assert_eq!(spec["selector"]["matchLabels"], expected);
    assert_eq!(spec["template"]["metadata"]["labels"]["k8s-app"], "flannel");
}

/// The container of the data path is replaced by hand alone; it and flanneld find each other and
/// the device.
#[scenario(unless = without_kubernetes)]
fn the_data_path_has_a_pod_of_its_own() {
    let server = ApiServer::pooled();
    let objects = built(&server, "data-path");
    let spec = |name: &str| {
        let mut all = objects.iter();
        let found = all.find(|object| object["metadata"]["name"] == name);
        &found.expect("a DaemonSet")["spec"]
    };
    let (data_path, flanneld) = (spec("kube-flannel-data-path"), spec("kube-flannel-ds"));
    assert_eq!(data_path["updateStrategy"]["type"], "OnDelete");
    let [data_path, flanneld] = [data_path, flanneld].map(|spec| &spec["template"]["spec"]);
    assert_eq!(data_path["hostNetwork"], true);
    assert!(data_path["hostPID"].is_null());
    for pod in [data_path, flanneld] {
        let container = &pod["containers"][0];
        for (name, path) in [("run", "/run/flannel"), ("tun", "/dev/net/tun")] {
            let is_mounted = |mount: &Value| mount["name"] == name && mount["mountPath"] == path;
            let mounts = container["volumeMounts"].as_array().expect("mounts");
            assert!(mounts.iter().any(is_mounted), "{container}");
            let is_of_host =
                |volume: &Value| volume["name"] == name && volume["hostPath"]["path"] == path;
            let volumes = pod["volumes"].as_array().expect("volumes");
            assert!(volumes.iter().any(is_of_host), "{volumes:?}");
        }
        let (context, first) = (&container["securityContext"], &flanneld["containers"][0]);
        assert_eq!(context, &first["securityContext"]);
    }
}
