//! The Go flanneld on two nodes of one API server.

use tests::{
    ApiServer, FaultProxy, GoFlanneld, Underlay,
    go_flanneld::without_kubernetes_and_go_flanneld,
    kubernetes::{Node, User},
    scenario, subnet_env,
};

const NET_CONF: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn pods_of_two_go_nodes_reach_each_other() {
    let server = ApiServer::pooled();
    let underlay = Underlay::new(2);
    let proxy = FaultProxy::kubernetes(&server, &underlay.switch, "172.31.0.254:6443");
    let kubeconfig = server.kubeconfig(&proxy.url(), User::Flannel);
    server.create_node(&Node::of_host(1).pod_cidrs(&["10.244.1.0/24"]));
    server.create_node(&Node::of_host(2).pod_cidrs(&["10.244.2.0/24"]));
    let start = |name, host| GoFlanneld::kubernetes(host, name, &kubeconfig, NET_CONF);
    let mut daemons = [
        start("host1", &underlay.hosts[0]),
        start("host2", &underlay.hosts[1]),
    ];
    for daemon in &mut daemons {
        daemon.wait_ready();
    }
    let pods: Vec<_> = underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], &underlay.hosts[1]);
    subnet_env::eventually_pings(&pods[1], &underlay.hosts[0]);
    let public_ip = server.annotation("host2", "flannel.alpha.coreos.com/public-ip");
    assert_eq!(public_ip.as_deref(), Some("172.31.0.2"));
    assert!(
        proxy
            .requests()
            .iter()
            .any(|request| request.is_patch() && request.status() == 200)
    );
}
