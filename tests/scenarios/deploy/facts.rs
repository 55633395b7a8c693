//! What an installation does, reduced to what both charts must agree on: names, labels, arguments,
//! configuration, paths.

use super::of_kind;
use serde_json::{Value, json};

/// The state folder, which Go flannel does not have.
const STATE: &str = "state";
/// Its command differs: there it is `cp` of an image of its own.
const PLUGIN_INSTALLER: &str = "install-cni-plugin";

/// The facts of the rendered objects.
#[track_caller]
pub(super) fn of(objects: &[Value]) -> Value {
    let data = &of_kind(objects, "ConfigMap")["data"];
    let daemon_set = of_kind(objects, "DaemonSet");
    let template = &daemon_set["spec"]["template"];
    let pod = &template["spec"];
    json!({
        "objects": names(objects),
        "net-conf.json": config(data, "net-conf.json"),
        "cni-conf.json": config(data, "cni-conf.json"),
        "selector": daemon_set["spec"]["selector"],
        "labels": [daemon_set["metadata"]["labels"], template["metadata"]["labels"]],
        "affinity": pod["affinity"],
        "hostNetwork": pod["hostNetwork"],
        "priorityClassName": pod["priorityClassName"],
        "tolerations": pod["tolerations"],
        "nodeSelector": pod["nodeSelector"],
        "imagePullSecrets": pod["imagePullSecrets"],
        "serviceAccountName": pod["serviceAccountName"],
        "initContainers": containers(&pod["initContainers"]),
        "containers": containers(&pod["containers"]),
        "volumes": volumes(&pod["volumes"]),
    })
}

fn names(objects: &[Value]) -> Vec<String> {
    let mut names: Vec<_> = objects
        .iter()
        .map(|object| {
            let metadata = &object["metadata"];
            format!(
                "{} {} {}",
                object["kind"], metadata["namespace"], metadata["name"]
            )
        })
        .collect();
    names.sort();
    names
}

/// The parsed text; the text itself where it is not JSON.
fn config(data: &Value, key: &str) -> Value {
    let text = data[key].as_str().expect("text");
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn containers(containers: &Value) -> Value {
    list(containers).map(container).collect()
}

fn container(container: &Value) -> Value {
    let words: Vec<_> = list(&container["command"])
        .chain(list(&container["args"]))
        .collect();
    let words = (container["name"] != PLUGIN_INSTALLER).then_some(words);
    let mounts: Vec<_> = list(&container["volumeMounts"])
        .filter(|mount| mount["name"] != STATE)
        .collect();
    let context = &container["securityContext"];
    json!({
        "name": container["name"],
        "image": container["image"],
        "words": words,
        "mounts": mounts,
        "ports": container["ports"],
        "livenessProbe": container["livenessProbe"],
        "readinessProbe": container["readinessProbe"],
        "resources": container["resources"],
        "privileged": context["privileged"],
        // those of the installers are ours: Go flannel's have the runtime's default
        "capabilities": words.is_some().then(|| &context["capabilities"]["add"])
            .filter(|_| container["name"] != "install-cni"),
    })
}

/// Name and path or source of each volume.
fn volumes(volumes: &Value) -> Vec<Value> {
    let mut volumes: Vec<_> = list(volumes)
        .filter(|volume| volume["name"] != STATE)
        .map(|volume| {
            json!([
                volume["name"],
                volume["hostPath"]["path"],
                volume["configMap"]
            ])
        })
        .collect();
    volumes.sort_by_key(Value::to_string);
    volumes
}
