//! The API server of the tests: its nodes, its users, and that one scenario at a time has it.

use std::time::Duration;
use tests::{
    ApiServer, Underlay,
    kubernetes::{Node, Patch, User, without_kubernetes, without_streaming_lists},
    process::eventually,
    scenario,
};

#[scenario(unless = without_kubernetes)]
fn kubectl_shows_what_the_test_made() {
    let server = ApiServer::pooled();
    server.create_node(&Node::of_host(1).pod_cidrs(&["10.244.1.0/24", "fd00:10:244:1::/64"]));
    server.create_nodes((0..20).map(Node::of_fleet));
    server.create_node(&Node::new("late"));
    server.assign_pod_cidrs("late", &["10.244.2.0/24"]);
    server.annotate("late", &[("example.com/key", Some("value"))]);
    let names = server.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(names.lines().count(), 22);
    let field = |node: &str, path: &str| {
        server.kubectl(&["get", "node", node, "-o", &format!("jsonpath={{{path}}}")])
    };
    assert_eq!(field("host1", ".spec.podCIDRs[1]"), "fd00:10:244:1::/64");
    assert_eq!(field("late", ".spec.podCIDR"), "10.244.2.0/24");
    assert_eq!(
        server.annotation("late", "example.com/key").as_deref(),
        Some("value")
    );
    let size = server.node("node-7").to_string().len();
    assert!(
        (13_000..15_000).contains(&size),
        "a large node has {size} bytes"
    );
    server.delete_node("late");
    assert!(
        !server
            .try_kubectl(&["get", "node", "late"], "")
            .status
            .success()
    );
}

#[scenario(unless = without_kubernetes)]
fn a_scenario_gets_a_server_without_nodes() {
    for _ in 0..3 {
        let server = ApiServer::pooled();
        assert_eq!(
            server.kubectl(&["get", "nodes,pods", "-A", "-o", "name"]),
            ""
        );
        let flannel = server.client().as_user(User::Flannel);
        let nodes = flannel.try_request("GET", "/api/v1/nodes", None, None);
        assert_eq!(nodes.expect("an answer").0, 200);
        server.create_node(&Node::new("left-over"));
        server.create_pod("left-over", "left-over");
        server.kubectl(&["delete", "clusterrolebinding", "flannel"]);
    }
}

#[scenario(unless = without_kubernetes)]
fn the_service_account_may_do_what_upstream_allows_it() {
    let server = ApiServer::pooled();
    server.create_node(&Node::of_host(1));
    let node = "/api/v1/nodes/host1";
    let annotation = serde_json::json!({"metadata": {"annotations": {"a": "b"}}});
    let status = |user: User, method: &str, path: &str| {
        let client = server.client().as_user(user);
        let patch = (method == "PATCH").then_some((Patch::Strategic, &annotation));
        let answer = client.try_request(method, path, patch.map(|p| p.0), patch.map(|p| p.1));
        answer.expect("an answer").0
    };
    for user in [User::Flannel, User::FlannelRenewed] {
        assert_eq!(status(user, "GET", "/api/v1/nodes"), 200);
        assert_eq!(status(user, "PATCH", &format!("{node}/status")), 200);
        assert_eq!(status(user, "PATCH", node), 403);
        assert_eq!(status(user, "DELETE", node), 403);
    }
    assert_eq!(status(User::Stranger, "GET", "/api/v1/nodes"), 403);
    assert_eq!(server.annotation("host1", "a").as_deref(), Some("b"));
}

#[scenario(unless = without_kubernetes)]
fn hosts_reach_the_server_with_a_kubeconfig() {
    let server = ApiServer::pooled();
    server.create_node(&Node::of_host(1));
    let underlay = Underlay::new(1);
    let kubeconfig = server.kubeconfig(&server.join(&underlay), User::Flannel);
    let kubectl = format!(
        "kubectl --kubeconfig {} --cache-dir /run/kubectl",
        kubeconfig.display()
    );
    let names = underlay.hosts[0].sh(&format!("{kubectl} get nodes -o name"));
    assert_eq!(names, "node/host1\n");
}

#[scenario(unless = without_kubernetes)]
fn conditions_are_set_and_removed() {
    let server = ApiServer::pooled();
    server.create_node(&Node::of_host(1));
    let condition = serde_json::json!({"type": "NetworkUnavailable", "status": "True"});
    server.set_condition("host1", &condition);
    let found = server
        .condition("host1", "NetworkUnavailable")
        .expect("a condition");
    assert_eq!(found["status"], "True");
    server.remove_condition("host1", "NetworkUnavailable");
    assert_eq!(server.condition("host1", "NetworkUnavailable"), None);
    assert!(server.condition("host1", "Ready").is_some());
}

#[scenario(unless = without_streaming_lists)]
fn the_server_streams_lists() {
    let server = ApiServer::pooled();
    server.create_nodes((0..3).map(Node::of_fleet));
    let path = "/api/v1/nodes?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let (status, events) = server
        .client()
        .try_request("GET", path, None, None)
        .expect("an answer");
    assert_eq!(status, 200);
    let events = events.as_str().expect("several lines");
    assert_eq!(events.matches("\"ADDED\"").count(), 3, "{events}");
    assert!(events.contains("k8s.io/initial-events-end"), "{events}");
}

#[scenario(unless = without_kubernetes)]
fn kubelets_update_their_nodes() {
    let server = ApiServer::pooled();
    server.create_nodes((0..50).map(Node::of_fleet));
    let version = || server.node("node-49")["metadata"]["resourceVersion"].to_string();
    let before = version();
    let names = (0..50).map(|number| format!("node-{number}")).collect();
    let kubelets = server.simulate_kubelets(names, Duration::from_millis(500));
    eventually("150 updates", Duration::from_secs(20), || {
        (kubelets.sent() >= 150).then_some(())
    });
    assert_ne!(version(), before);
}

#[scenario(unless = without_kubernetes)]
fn nodes_survive_the_end_of_the_server() {
    let mut server = ApiServer::new();
    server.create_node(&Node::of_host(1));
    server.kill();
    server.etcd().kill(0);
    server.etcd().start(0);
    server.start();
    assert_eq!(
        server.kubectl(&["get", "nodes", "-o", "name"]),
        "node/host1\n"
    );
}
