//! What a node waits for at its start, each with the reason in /readyz?verbose: nothing of it ends
//! the daemon.

use super::cluster::{Cluster, DUAL, Flanneld, TIMEOUT, V4};
use serde_json::json;
use std::{fs, path::Path};
use tests::{
    ApiServer, FaultProxy, Underlay,
    kubernetes::{Node, User, without_kubernetes},
    pki::Authority,
    process::eventually,
    scenario, subnet_env,
};

#[scenario(unless = without_kubernetes)]
fn node_starts_before_the_api_server() {
    let cluster = Cluster::new(1, V4);
    cluster.proxy.refuse();
    let mut flanneld = cluster.start(1);
    flanneld.wait_status(&[" 503 ", "waiting: for ", "API server", "refused"]);
    cluster.proxy.accept();
    flanneld.wait_ready();
    let status = flanneld.status();
    assert!(!status.contains("waiting"), "{status}");
    cluster.wait_condition(1);
}

#[scenario(unless = without_kubernetes)]
fn node_starts_before_its_object_and_before_its_pod_cidr() {
    let cluster = Cluster::without_nodes(1, DUAL);
    let mut flanneld = cluster.start(1);
    flanneld.wait_status(&[" 503 ", "waiting: for node host1", "no such node yet"]);
    cluster.server.create_node(&Node::of_host(1));
    flanneld.wait_status(&[" 503 ", "waiting: for a podCIDR of node host1"]);
    assert_eq!(cluster.annotations(1).len(), 0);
    assert_eq!(cluster.condition(1), None);
    let pod_cidrs = cluster.pod_cidrs(7);
    let pod_cidrs: Vec<&str> = pod_cidrs.iter().map(String::as_str).collect();
    cluster.server.assign_pod_cidrs("host1", &pod_cidrs);
    flanneld.wait_ready();
    let value = |key| subnet_env::value(cluster.host(1), key);
    assert_eq!(value("FLANNEL_SUBNET"), Some("10.244.7.1/24".into()));
    assert_eq!(
        value("FLANNEL_IPV6_SUBNET"),
        Some("fd00:10:244:7::1/64".into())
    );
    cluster.wait_condition(1);
}

/// Each missing permission is named with its verb and resource, and none needs a restart.
#[scenario(unless = without_kubernetes)]
fn node_waits_for_permissions() {
    let cluster = Cluster::new(1, V4);
    let allow = |rules: serde_json::Value| {
        let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]);
        let patch = patch.to_string();
        let arguments = [
            "patch",
            "clusterrole",
            "flannel",
            "--type=json",
            "-p",
            &patch,
        ];
        cluster.server.kubectl(&arguments);
    };
    let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    let nodes = rule("nodes", &["get", "list", "watch"]);
    allow(json!([]));
    let mut flanneld = cluster.start(1);
    flanneld.wait_status(&[" 503 ", "nodes", "ClusterRole", "forbidden"]);
    allow(json!([nodes]));
    flanneld.wait_status(&[
        " 503 ",
        "flanneld may not patch nodes/status",
        "ClusterRole",
    ]);
    allow(json!([nodes, rule("nodes/status", &["patch"])]));
    flanneld.wait_ready();
    cluster.wait_condition(1);
}

#[scenario(unless = without_kubernetes)]
fn pod_finds_its_node_and_the_api_server() {
    let server = ApiServer::pooled();
    let underlay = Underlay::new(1);
    server.join(&underlay);
    let host = &underlay.hosts[0];
    let variables = server.in_cluster(host, "172.31.0.200", 6443);
    server.create_node(&Node::of_host(1).pod_cidrs(&["10.244.3.0/24"]));
    host.write("/run/net-conf.json", V4);
    let mut all: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.extend([
        ("POD_NAME", "kube-flannel-ds-x"),
        ("POD_NAMESPACE", "default"),
        ("EVENT_QUEUE_DEPTH", "5000"),
        ("CONT_WHEN_CACHE_NOT_READY", "false"),
    ]);
    let mut flanneld = Flanneld::start(host, &[], &all);
    flanneld.wait_status(&[" 503 ", "this node's name", "get pods", "404"]);
    server.apply(
        r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"default"}}"#,
    );
    server.apply(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"kube-flannel-ds-x","namespace":"default"},"spec":{"nodeName":"host1","automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}"#,
    );
    flanneld.wait_ready();
    let subnet = subnet_env::value(host, "FLANNEL_SUBNET");
    assert_eq!(subnet.as_deref(), Some("10.244.3.1/24"));
    let log = flanneld.stop();
    assert!(
        log.contains("EVENT_QUEUE_DEPTH and CONT_WHEN_CACHE_NOT_READY have no effect"),
        "{log}"
    );
    assert!(!log.contains(User::Flannel.token()), "{log}");
}

/// Credentials that the API server refuses are read again until it takes them.
#[scenario(unless = without_kubernetes)]
fn renewed_credentials_need_no_restart() {
    let cluster = Cluster::new(1, V4);
    let kubeconfig = cluster
        .server
        .kubeconfig_with_token(&cluster.proxy.url(), "expired-token");
    let argument = format!("-kubeconfig-file={}", kubeconfig.display());
    let mut flanneld = cluster.start_with(1, &[&argument, "-v=2"], &[("NODE_NAME", "host1")]);
    flanneld.wait_status(&[" 503 ", "credentials"]);
    let replace = |user: User| {
        let renewed = cluster.server.kubeconfig(&cluster.proxy.url(), user);
        fs::rename(renewed, &kubeconfig).expect("rename");
    };
    replace(User::Flannel);
    flanneld.wait_ready();
    cluster.wait_condition(1);
    replace(User::FlannelRenewed);
    cluster.proxy.take_requests();
    cluster.annotate(1, "public-ip", None);
    cluster.wait_annotation(1, "public-ip", "172.31.0.1");
    let renewed = format!("Bearer {}", User::FlannelRenewed.token());
    let requests = cluster.proxy.requests();
    let patch = requests.iter().find(|request| request.is_patch());
    assert_eq!(patch.expect("a patch").authorization, renewed);
    cluster.proxy.drop_connections();
    eventually("the watch has the new token", TIMEOUT, || {
        let requests = cluster.proxy.requests();
        let mut watches = requests.iter().filter(|request| request.is_node_watch());
        watches
            .any(|watch| watch.authorization == renewed && watch.status() == 200)
            .then_some(())
    });
    let log = flanneld.stop();
    assert!(log.contains("TRACE"), "the log has everything");
    for secret in ["expired-token", User::Flannel.token()] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// The authority behind the API server's certificate changes: the file that names it is read again.
#[scenario(unless = without_kubernetes)]
fn renewed_authority_needs_no_restart() {
    let server = ApiServer::pooled();
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    let address = "172.31.0.254:6443";
    let first = FaultProxy::kubernetes(&server, &underlay.switch, address);
    server.create_node(&Node::of_host(1).pod_cidrs(&["10.244.1.0/24"]));
    host.write("/run/net-conf.json", V4);
    let copy = |from: &Path| host.write("/run/ca.crt", &fs::read_to_string(from).expect("ca"));
    copy(&server.ca());
    let kubeconfig = server.kubeconfig(&first.url(), User::Flannel);
    let text = fs::read_to_string(kubeconfig).expect("kubeconfig");
    let own_ca = server.ca().display().to_string();
    host.write("/run/kubeconfig", &text.replace(&own_ca, "/run/ca.crt"));
    let arguments = ["-kubeconfig-file=/run/kubeconfig"];
    let mut flanneld = Flanneld::start(host, &arguments, &[("NODE_NAME", "host1")]);
    flanneld.wait_ready();
    drop(first);
    let folder = tempfile::tempdir_in("/srv").expect("folder");
    let authority = Authority::new(folder.path());
    let identity = authority.issue("apiserver", &["172.31.0.254"]);
    let _second = FaultProxy::kubernetes_as(&server, &underlay.switch, address, &identity);
    flanneld.wait_status(&[" 200 ", "waiting: for the API server", "ertificate"]);
    copy(&authority.ca());
    eventually("the watch is back", TIMEOUT, || {
        (!flanneld.status().contains("waiting")).then_some(())
    });
    let public_ip = "flannel.alpha.coreos.com/public-ip";
    server.annotate("host1", &[(public_ip, None)]);
    eventually("the annotation is back", TIMEOUT, || {
        server.annotation("host1", public_ip)
    });
}

#[scenario(unless = without_kubernetes)]
fn contradicting_flags_and_bad_variables_are_named() {
    let cluster = Cluster::new(1, V4);
    let ends_with = |code: i32, more: &[&str], variables: &[(&str, &str)], texts: &[&str]| {
        let mut flanneld = cluster.start_with(1, more, variables);
        let status = flanneld.process.wait(TIMEOUT);
        let output = flanneld.output();
        assert_eq!(status.code(), Some(code), "{output}");
        for text in texts {
            assert!(output.contains(text), "{text} in {output}");
        }
    };
    let name = [("NODE_NAME", "host1")];
    ends_with(
        2,
        &["-listen=127.0.0.1:8888"],
        &name,
        &["-kube-subnet-mgr", "-listen"],
    );
    ends_with(
        2,
        &["-remote=127.0.0.1:8888"],
        &name,
        &["-kube-subnet-mgr", "-remote"],
    );
    ends_with(
        2,
        &["-kube-annotation-prefix=flannel"],
        &name,
        &["subnet/kube: prefix must be in a format: fqdn/[0-9a-z-_]*"],
    );
    ends_with(
        1,
        &["-kubeconfig-file=/run/missing"],
        &name,
        &["/run/missing", "-kubeconfig-file"],
    );
    ends_with(
        1,
        &["-net-config-path=/run/missing.json"],
        &name,
        &["failed to read net conf", "/run/missing.json"],
    );
    ends_with(
        2,
        &[],
        &[],
        &["env variables POD_NAME and POD_NAMESPACE must be set"],
    );
    ends_with(2, &[], &[("NODE_NAME", "../x")], &["NODE_NAME", "../x"]);
}
