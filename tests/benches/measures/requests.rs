//! The API requests of a flanneld that runs, beside the Go flanneld. It takes twelve minutes, since
//! both renew their watch every five to ten, so it is measured on request only.

use super::managers::{contender, kubernetes};
use crate::{
    contender::Contender,
    measure::{Measure, Unit},
};
use std::{thread, time::Duration};
use tests::{
    ApiServer, FaultProxy, Underlay,
    go_flanneld::without_kubernetes_and_go_flanneld,
    kubernetes::{Node, User},
};

/// After it, the requests of the start are over.
const START_TIME: Duration = Duration::from_secs(30);
const MEASURED_TIME: Duration = Duration::from_secs(12 * 60);
/// Measured times in an hour.
const PER_HOUR: f64 = 5.0;

/// Both at once, each behind a proxy of its own.
pub(super) fn run(_contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    if let Some(reason) = without_kubernetes_and_go_flanneld() {
        println!("requests-per-hour left out: {reason}");
        return Vec::new();
    }
    let server = ApiServer::new();
    let underlay = Underlay::new(2);
    let started: Vec<_> = [(true, 1), (false, 2)]
        .into_iter()
        .map(|(ours, number)| {
            let podcidr = format!("10.0.{number}.0/24");
            server.create_node(&Node::of_host(number).pod_cidrs(&[&podcidr]));
            let address = format!("172.31.0.254:{}", 6443 + number);
            let proxy = FaultProxy::kubernetes(&server, &underlay.switch, &address);
            let kubeconfig = server.kubeconfig(&proxy.url(), User::Flannel);
            let (host, name) = (&underlay.hosts[number - 1], format!("host{number}"));
            let daemon = kubernetes(ours, host, &name, &kubeconfig);
            (ours, proxy, daemon)
        })
        .collect();
    thread::sleep(START_TIME);
    for (_, proxy, _) in &started {
        proxy.take_requests();
    }
    thread::sleep(MEASURED_TIME);
    let mut requests = Measure::new("Kubernetes: API requests per hour", Unit::Count);
    for (ours, proxy, daemon) in started {
        let count = proxy.take_requests().len() as f64;
        requests.add(contender(ours), count * PER_HOUR);
        daemon.end();
    }
    vec![requests]
}
