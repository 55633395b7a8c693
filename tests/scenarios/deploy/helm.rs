//! The Helm chart beside Go flannel's: the same values lead to the same facts.

use super::{
    DEPLOY, NAMESPACE, chart_values, facts, manifest::daemon_set, objects, of_kind, of_upstream,
    without_upstream,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tests::{
    ApiServer,
    kubernetes::{User, without_kubernetes},
    peers, sandbox, scenario,
};

fn without_helm() -> Option<String> {
    helm().err().or_else(without_kubernetes)
}

fn without_helm_and_upstream() -> Option<String> {
    without_helm().or_else(without_upstream)
}

/// helm: what `scripts/go-peer` built, or the one in `$PATH`. The error is the reason to skip.
fn helm() -> Result<PathBuf, String> {
    match peers::built_from_go("helm") {
        Ok(folder) => Ok(folder.join("helm")),
        Err(reason) if peers::without_program("helm", "").is_some() => Err(reason),
        Err(_) => Ok("helm".into()),
    }
}

fn chart() -> PathBuf {
    Path::new(DEPLOY).join("helm/flannel")
}

fn upstream_chart() -> PathBuf {
    of_upstream("chart/kube-flannel")
}

/// `helm VERB flannel CHART` with values, the later over the earlier ones.
fn run_helm(verb: &[&str], chart: &Path, values: &[&Value]) -> Output {
    let folder = sandbox::shared_folder("helm");
    let mut command = Command::new(helm().expect("without_helm() is checked before"));
    command.args(verb).arg("flannel").arg(chart);
    command.args(["--namespace", NAMESPACE]);
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, folder.path());
    }
    for (number, values) in values.iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, values.to_string()).expect("values");
        command.arg("--values").arg(file);
    }
    command.output().expect("helm")
}

/// The rendered objects.
#[track_caller]
fn rendered(server: &ApiServer, chart: &Path, values: &[&Value]) -> Vec<Value> {
    objects(server, &template(chart, values))
}

/// `helm template`.
#[track_caller]
fn template(chart: &Path, values: &[&Value]) -> String {
    let output = run_helm(&["template"], chart, values);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{values:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The facts of the chart with the values of each case; kubectl converts all at once.
#[track_caller]
fn facts_of_each(server: &ApiServer, chart: &Path, cases: &[(&str, Value)]) -> Vec<Value> {
    let common = chart_values::common();
    let rendered = cases
        .iter()
        .map(|(_, values)| template(chart, &[&common, values]));
    let objects = objects(server, &rendered.collect::<String>());
    assert_eq!(
        objects.len() % cases.len(),
        0,
        "the same objects in each case"
    );
    let chunks = objects.chunks(objects.len() / cases.len());
    chunks.map(facts::of).collect()
}

fn net_conf(objects: &[Value]) -> String {
    let text = &of_kind(objects, "ConfigMap")["data"]["net-conf.json"];
    text.as_str().expect("net-conf.json").to_owned()
}

#[scenario(unless = without_helm_and_upstream)]
fn every_value_does_what_it_does_in_go_flannels_chart() {
    let server = ApiServer::pooled();
    let cases = chart_values::cases();
    let [upstream, ours] =
        [upstream_chart(), chart()].map(|chart| facts_of_each(&server, &chart, &cases));
    for (((name, _), upstream), ours) in cases.iter().zip(upstream).zip(ours) {
        for (fact, expected) in upstream.as_object().expect("facts") {
            assert_eq!(&ours[fact], expected, "{name}: {fact}");
        }
    }
}

/// There the mode is no JSON string, and a VNI above 999,999 has an exponent.
#[scenario(unless = without_helm_and_upstream)]
fn the_defects_of_go_flannels_chart_are_mended() {
    let server = ApiServer::pooled();
    let mode = json!({"flannel": {"backend": "wireguard", "tunnelMode": "auto"}});
    let by_upstream = net_conf(&rendered(&server, &upstream_chart(), &[&mode]));
    assert!(
        serde_json::from_str::<Value>(&by_upstream).is_err(),
        "{by_upstream}"
    );
    let ours = net_conf(&rendered(&server, &chart(), &[&mode]));
    let config: Value = serde_json::from_str(&ours).expect("JSON");
    assert_eq!(
        config["Backend"],
        json!({"Type": "wireguard", "Mode": "auto"})
    );

    let vni = json!({"flannel": {"vni": 16_777_215}});
    let by_upstream = net_conf(&rendered(&server, &upstream_chart(), &[&vni]));
    assert!(by_upstream.contains("e+07"), "{by_upstream}");
    let ours = net_conf(&rendered(&server, &chart(), &[&vni]));
    assert!(ours.contains("\"VNI\": 16777215"), "{ours}");
}

/// A values file of Go flannel's chart needs no change.
#[scenario(unless = without_helm_and_upstream)]
fn the_schema_accepts_every_value_of_go_flannels_chart() {
    let file = fs::read_to_string(upstream_chart().join("values.yaml")).expect("values.yaml");
    let folder = sandbox::shared_folder("values");
    let path = folder.path().join("values.yaml");
    fs::write(&path, file).expect("values.yaml");
    let verb = ["template", "--values", path.to_str().expect("UTF-8")];
    let output = run_helm(&verb, &chart(), &[]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[scenario(unless = without_helm)]
fn the_schema_names_what_is_wrong() {
    for (values, reported) in [
        (json!({"podCIDR": "10.0.0.0/8"}), "podCIDR"),
        (json!({"podCidr": ""}), "/podCidrv6"),
        (json!({"podCidr": "10.0.0.0"}), "/podCidr"),
        (json!({"flannel": {"directRoutng": true}}), "directRoutng"),
        (json!({"flannel": {"mtu": "1400"}}), "/flannel/mtu"),
        (json!({"flannel": {"vni": 16_777_216}}), "/flannel/vni"),
        (
            json!({"flannel": {"tunnelMode": "both"}}),
            "/flannel/tunnelMode",
        ),
        (
            json!({"flannel": {"replacePlugins": ["ipvlan"]}}),
            "/flannel/replacePlugins/0",
        ),
        (
            json!({"flannel": {"healthz": {"port": 65_536}}}),
            "/flannel/healthz/port",
        ),
        (
            json!({"flannel": {"maxUnavailable": "0%"}}),
            "/flannel/maxUnavailable",
        ),
        (json!({"netpol": {"enabled": "yes"}}), "/netpol/enabled"),
    ] {
        let output = run_helm(&["template"], &chart(), &[&values]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values} is accepted");
        assert!(errors.contains(reported), "{reported} in: {errors}");
    }
}

/// Our own values, which Go flannel's chart does not have.
#[scenario(unless = without_helm)]
fn values_of_our_own_reach_the_daemon_set() {
    let server = ApiServer::pooled();
    let values = json!({"flannel": {
        "image": {"pullPolicy": "Always"}, "stateDir": "/data/flannel", "maxUnavailable": "10%",
        "replacePlugins": ["flannel"], "extraEnv": [{"name": "FLANNELD_IFACE", "value": "eth1"}],
    }});
    let objects = rendered(&server, &chart(), &[&values]);
    let spec = &of_kind(&objects, "DaemonSet")["spec"];
    assert_eq!(
        spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
        "10%"
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["initContainers"][0]["args"][1], "--replace=flannel");
    let env = pod["containers"][0]["env"].as_array().expect("env");
    assert!(
        env.contains(&json!({"name": "FLANNELD_IFACE", "value": "eth1"})),
        "{env:?}"
    );
    let volumes = pod["volumes"].to_string();
    assert!(volumes.contains(r#""path":"/data/flannel""#), "{volumes}");
}

/// The chart's defaults install what the manifest installs.
#[scenario(unless = without_helm)]
fn the_chart_is_the_manifest() {
    let server = ApiServer::pooled();
    let manifest = fs::read_to_string(super::manifest()).expect("manifest");
    let [by_chart, by_manifest] = [
        rendered(&server, &chart(), &[]),
        objects(&server, &manifest),
    ]
    .map(|objects| {
        let mut spec = of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"].clone();
        // the chart tolerates NoExecute, too, as Go flannel's does
        spec.as_object_mut().expect("spec").remove("tolerations");
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().expect("containers") {
                container
                    .as_object_mut()
                    .expect("container")
                    .remove("imagePullPolicy");
            }
        }
        let rules = of_kind(&objects, "ClusterRole")["rules"].clone();
        (
            spec,
            rules,
            of_kind(&objects, "ConfigMap")["data"]["cni-conf.json"].clone(),
        )
    });
    assert_eq!(by_chart, by_manifest);
}

/// `helm upgrade` replaces a release of Go flannel's chart, and `helm rollback` leads back.
#[scenario(unless = without_helm_and_upstream)]
fn upgrade_replaces_a_release_of_go_flannels_chart() {
    let server = ApiServer::new();
    let url = format!("https://127.0.0.1:{}", tests::kubernetes::PORT);
    let kubeconfig = server.kubeconfig(&url, User::Admin);
    let kubeconfig = kubeconfig.to_str().expect("UTF-8");
    let run = |words: &[&str], chart: &Path| {
        let verb = [&["--kubeconfig", kubeconfig], words].concat();
        let output = server.host().run(|| run_helm(&verb, chart, &[]));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {errors}");
    };
    // what a release installs must not be there before
    server.kubectl(&["delete", "clusterrole,clusterrolebinding", "flannel"]);
    let account = ["-n", NAMESPACE, "delete", "serviceaccount", "flannel"];
    server.kubectl(&[&account[..], &["--ignore-not-found"]].concat());
    run(&["install", "--create-namespace"], &upstream_chart());
    let before = daemon_set(&server);
    run(&["upgrade"], &chart());
    let ours = daemon_set(&server);
    assert_eq!(ours["metadata"]["uid"], before["metadata"]["uid"]);
    let image = &ours["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "localhost/flannel:v0.1.0");
    run(&["upgrade"], &upstream_chart());
    assert_eq!(daemon_set(&server)["spec"], before["spec"]);
}
