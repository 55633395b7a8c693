//! What one applies to a cluster: the manifest, the kustomizations, the Helm chart. A real API
//! server judges them, and Go flannel's own manifest and chart stand beside them.

mod chart_values;
mod facts;
mod helm;
mod kustomize;
mod manifest;

use serde_json::{Deserializer, Value};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{ApiServer, kubernetes::without_kubernetes, peers, sandbox};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
const NAMESPACE: &str = "kube-flannel";

fn without_upstream() -> Option<String> {
    without_kubernetes().or_else(|| upstream().err())
}

/// The source of Go flannel. The error is the reason to skip.
fn upstream() -> Result<PathBuf, String> {
    peers::go_module("flannel", "github.com/flannel-io/flannel")
}

/// A file of Go flannel's source.
fn of_upstream(path: &str) -> PathBuf {
    upstream()
        .expect("without_upstream() is checked before")
        .join(path)
}

fn manifest() -> PathBuf {
    Path::new(DEPLOY).join("kube-flannel.yml")
}

/// The objects of a manifest, as JSON. Nothing is stored.
#[track_caller]
fn objects(server: &ApiServer, yaml: &str) -> Vec<Value> {
    // a file: kubectl prints while it still reads
    let folder = sandbox::shared_folder("yaml");
    let file = folder.path().join("objects.yaml");
    fs::write(&file, yaml).expect("file");
    let mut arguments: Vec<_> = "create --dry-run=client --validate=false -o json -f"
        .split(' ')
        .collect();
    arguments.push(file.to_str().expect("UTF-8"));
    let output = server.try_kubectl(&arguments, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{yaml}");
    Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(|object| object.expect("JSON"))
        .collect()
}

/// The one object of a kind.
#[track_caller]
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(object), None) => object,
        (first, _) => panic!("{} {kind}", if first.is_some() { "several" } else { "no" }),
    }
}
