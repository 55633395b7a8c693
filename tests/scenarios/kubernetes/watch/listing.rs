//! How all nodes are listed: by a streaming list, or by pages where the server has none.

use super::peers::{ROUTES, wait_shown};
use crate::kubernetes::cluster::{Cluster, TIMEOUT};
use tests::{
    Fault,
    fault_proxy::Seen,
    kubernetes::{Node, without_kubernetes, without_streaming_lists},
    process::eventually,
    scenario,
};

/// A network with room for a fleet.
pub(super) const WIDE: &str =
    r#"{"Network":"10.0.0.0/8","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
/// More than two pages.
const NODES: usize = 1200;

/// What the requests for nodes are, in short.
pub(super) fn listings(requests: &[Seen]) -> Vec<&'static str> {
    let of_nodes = requests
        .iter()
        .filter(|request| request.path == "/api/v1/nodes");
    of_nodes
        .map(|request| {
            let has = |parameter: &str| request.query.contains(parameter);
            match () {
                () if has("sendInitialEvents=true") => "streaming list",
                () if has("continue=") => "next page",
                () if has("limit=500") => "first page",
                () if has("watch=true") => "watch",
                () => "other",
            }
        })
        .collect()
}

fn fleet_of(cluster: &Cluster) {
    let nodes = (0..NODES).map(|number| {
        let (high, low) = (128 + (number >> 8), number & 0xff);
        Node::new(&format!("peer{number}"))
            .pod_cidrs(&[&format!("10.{high}.{low}.0/24")])
            .vxlan_peer(
                &format!("198.18.{high}.{low}"),
                &format!("0e:00:00:00:{high:02x}:{low:02x}"),
            )
    });
    cluster.server.create_nodes(nodes);
}

fn routes(cluster: &Cluster) -> usize {
    let routes = cluster.host(1).sh(ROUTES);
    routes
        .lines()
        .filter(|line| line.contains("onlink"))
        .count()
}

#[scenario(unless = without_streaming_lists)]
fn nodes_are_listed_by_a_watch() {
    let cluster = Cluster::new(1, WIDE);
    fleet_of(&cluster);
    let mut daemon = cluster.start(1);
    daemon.wait_ready();
    assert_eq!(
        routes(&cluster),
        NODES,
        "ready means that all are programmed"
    );
    let requests = cluster.proxy.requests();
    assert_eq!(listings(&requests), ["streaming list"]);
    assert!(requests.iter().all(|request| {
        request.path != "/api/v1/nodes" || request.accept == "application/vnd.kubernetes.protobuf"
    }));
}

/// The server answers as one does that has no streaming lists.
#[scenario(unless = without_kubernetes)]
fn nodes_are_listed_by_pages_where_the_server_refuses() {
    let cluster = Cluster::new(1, WIDE);
    fleet_of(&cluster);
    let refusal = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: \
                   sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
    cluster.proxy.inject(
        |request| request.query.contains("sendInitialEvents"),
        Fault::status(422, "Invalid", refusal),
    );
    let mut daemon = cluster.start(1);
    daemon.wait_ready();
    assert_eq!(
        routes(&cluster),
        NODES,
        "ready means that all are programmed"
    );
    let by_pages = ["first page", "next page", "next page", "watch"];
    let mut expected = vec!["streaming list"];
    expected.extend(by_pages);
    let watched = |expected: &[&str]| {
        let what = format!("requests {expected:?}");
        eventually(&what, TIMEOUT, || {
            (listings(&cluster.proxy.requests()) == expected).then_some(())
        });
    };
    watched(&expected);
    // the choice is remembered; a token that expires starts the listing again
    cluster.proxy.take_requests();
    cluster.server.delete_node("peer7");
    wait_shown(
        cluster.host(1),
        &daemon,
        ROUTES,
        &[("10.128.7.0/24", false)],
    );
    cluster
        .proxy
        .inject_times(1, |request| request.is_watch(), Fault::gone());
    cluster.proxy.inject_times(
        1,
        |request| request.query.contains("continue="),
        Fault::gone(),
    );
    cluster.proxy.drop_connections();
    let mut expected = vec!["watch", "first page", "next page"];
    expected.extend(by_pages);
    watched(&expected);
    assert_eq!(routes(&cluster), NODES - 1);
    cluster.server.delete_node("peer8");
    wait_shown(
        cluster.host(1),
        &daemon,
        ROUTES,
        &[("10.128.8.0/24", false)],
    );
}
