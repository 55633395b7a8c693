//! Pods of both nodes reach each other, the service, and the host ports.

use crate::{
    Cluster,
    report::step,
    workload::{self, HOST_PORT, REPLICAS},
};
use tests::underlay;

pub(super) fn replicas(cluster: &Cluster<'_>) {
    cluster.control_plane.apply(&workload::replicas());
    let pods = cluster.ready_pods("web", REPLICAS);
    for node in &cluster.nodes {
        let count = Cluster::on_node(&pods, &node.name).len();
        step(&format!("{count} ready pods on {}", node.name));
        assert!(count > 0);
    }
    ping_all(cluster);
    let service = cluster.control_plane.get("service web");
    let address = service["spec"]["clusterIP"].as_str().expect("clusterIP");
    cluster.exec_in_each(&pods, &format!("timeout 5 wget -q -O - http://{address}/"));
    step("every pod reaches the service");
}

/// Each replica pings each.
pub(super) fn ping_all(cluster: &Cluster<'_>) {
    let pods = cluster.ready_pods("web", REPLICAS);
    let addresses: Vec<_> = pods.iter().map(|pod| pod.ip.as_str()).collect();
    let pings = format!(
        "for ip in {}; do ping -c 1 -W 3 $ip > /dev/null || {{ echo no answer from $ip; exit 1; }}; done",
        addresses.join(" ")
    );
    cluster.exec_in_each(&pods, &pings);
    step(&format!("ping: {0} of {0}", REPLICAS * REPLICAS));
}

pub(super) fn host_ports(cluster: &Cluster<'_>) {
    cluster.control_plane.apply(&workload::host_ports());
    let servers = cluster.ready_pods("host-port", cluster.nodes.len());
    let pods = cluster.ready_pods("web", REPLICAS);
    for (number, node) in (1..).zip(&cluster.nodes) {
        let url = format!("http://{}:{HOST_PORT}/", underlay::ip(number));
        let server = &Cluster::on_node(&servers, &node.name)[0].name;
        let from = cluster
            .nodes
            .iter()
            .map(|node| Cluster::on_node(&pods, &node.name)[0]);
        for pod in from {
            let page = cluster.exec(pod, &format!("timeout 5 wget -q -O - {url}"));
            assert_eq!(
                page.expect("an answer").trim(),
                server,
                "{url} from {}",
                pod.node
            );
        }
    }
    step("each node's port leads to its own pod, from pods of both nodes");
}
