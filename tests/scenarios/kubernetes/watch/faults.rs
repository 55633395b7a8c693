//! Faults of the API server and of the way to it: packets keep flowing, the routes stay, and what
//! changed meanwhile arrives afterwards.

use super::peers::{FDB, PREFIX, ROUTES, peer, public_ip, subnet, wait_shown};
use crate::kubernetes::cluster::{Cluster, Flanneld, V4};
use nix::sys::signal::Signal;
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tests::{
    Case, Ending, Fault, Process, case,
    kubernetes::{Node, without_kubernetes, without_streaming_lists},
    scenario, scenarios, subnet_env,
};

/// How long a fault lasts: for several attempts.
const OUTAGE: Duration = Duration::from_secs(3);

/// Two hosts and two peers, and packets between the pods of the hosts.
struct Traffic {
    ping: Process,
    daemons: Vec<Flanneld>,
    cluster: Cluster,
}

impl Traffic {
    fn start() -> Traffic {
        let cluster = Cluster::new(2, V4);
        for number in [1, 2] {
            cluster.server.create_node(&peer(number));
        }
        let daemons = cluster.start_all();
        let pods = [1, 2].map(|number| subnet_env::pod(cluster.host(number)));
        for (pod, other) in pods.iter().zip([2, 1]) {
            subnet_env::eventually_pings(pod, cluster.host(other));
        }
        for number in [1, 2] {
            let known = [(&*subnet(1), true), (&subnet(2), true)];
            wait_shown(cluster.host(number), &daemons[number - 1], ROUTES, &known);
        }
        let target = &subnet_env::pod_addresses(cluster.host(2))[0];
        let mut ping = Command::new("ping");
        ping.args(["-n", "-i", "0.05", target]);
        let ping = pods[0].spawn(ping);
        Traffic {
            ping,
            daemons,
            cluster,
        }
    }

    /// One peer goes, one moves, one comes.
    fn change(&self) {
        let server = &self.cluster.server;
        server.delete_node("peer1");
        let key = format!("{PREFIX}/public-ip");
        server.annotate("peer2", &[(&key, Some("172.31.0.112"))]);
        server.create_node(&peer(3));
    }

    /// What was known before the fault stays as it was, while it lasts.
    #[track_caller]
    fn assert_unchanged(&self) {
        let started = Instant::now();
        while started.elapsed() < OUTAGE {
            let (routes, fdb) = (
                self.cluster.host(1).sh(ROUTES),
                self.cluster.host(1).sh(FDB),
            );
            for (text, shown) in [
                (&*subnet(1), true),
                (&subnet(2), true),
                (&subnet(3), false),
                ("10.244.2.0/24", true),
            ] {
                assert_eq!(routes.contains(text), shown, "{text}: {routes}");
            }
            assert!(fdb.contains(&public_ip(2)), "{fdb}");
            thread::sleep(Duration::from_millis(100));
        }
        let status = self.daemons[0].status();
        assert!(
            status.contains(" 200 "),
            "{status}\n{}",
            self.daemons[0].output()
        );
    }

    /// Every change arrives on every host, and no packet was lost.
    #[track_caller]
    fn assert_changed(mut self) {
        for number in [1, 2] {
            let (host, daemon) = (self.cluster.host(number), &self.daemons[number - 1]);
            let routes = [(&*subnet(1), false), (&subnet(2), true), (&subnet(3), true)];
            wait_shown(host, daemon, ROUTES, &routes);
            let addresses = [("172.31.0.112", true), (&public_ip(2), false)];
            wait_shown(host, daemon, FDB, &addresses);
        }
        self.ping.signal(Signal::SIGINT);
        self.ping.wait(Duration::from_secs(5));
        let output = self.ping.output();
        assert!(output.contains(" 0% packet loss"), "{output}");
    }
}

/// Every request for nodes meets a fault for a while.
fn survives(fault: Fault) {
    let traffic = Traffic::start();
    let proxy = &traffic.cluster.proxy;
    proxy.inject(|request| request.path == "/api/v1/nodes", fault);
    proxy.drop_connections();
    traffic.change();
    traffic.assert_unchanged();
    proxy.clear();
    proxy.drop_connections();
    traffic.assert_changed();
}

type MakeFault = fn() -> Fault;

#[scenarios(unless = without_kubernetes)]
fn faults_of_every_request() -> Vec<Case> {
    let faults: [(&str, MakeFault); 9] = [
        ("status_429", || Fault::too_many_requests(1)),
        ("status_500", Fault::internal_error),
        ("status_502_with_html", || Fault::html(502)),
        ("status_200_with_html", || Fault::html(200)),
        ("status_401", Fault::unauthorized),
        ("requests_without_answer", || Fault::Stall),
        ("requests_that_are_dropped", || Fault::Drop),
        ("a_slow_drip", || Fault::Drip {
            bytes_per_second: 20,
        }),
        ("answers_that_are_cut", || Fault::CutAfter(30)),
    ];
    faults
        .into_iter()
        .map(|(name, fault)| case(&format!("watch_survives_{name}"), move || survives(fault())))
        .collect()
}

#[scenario(unless = without_kubernetes)]
fn watch_survives_a_stall() {
    let traffic = Traffic::start();
    traffic.cluster.proxy.stall(true);
    traffic.change();
    traffic.assert_unchanged();
    traffic.cluster.proxy.stall(false);
    traffic.assert_changed();
}

#[scenario(unless = without_kubernetes)]
fn watch_survives_a_server_out_of_reach() {
    let traffic = Traffic::start();
    traffic.cluster.proxy.refuse();
    traffic.cluster.proxy.drop_connections();
    traffic.change();
    traffic.assert_unchanged();
    traffic.cluster.proxy.accept();
    traffic.assert_changed();
}

#[scenario(unless = without_kubernetes)]
fn watch_survives_half_an_event() {
    let traffic = Traffic::start();
    for (ending, name) in [(Ending::Cut, "cut"), (Ending::End, "ended")] {
        traffic.cluster.proxy.end_within_next_event(ending);
        traffic.cluster.server.create_node(&Node::new(name));
    }
    traffic.change();
    traffic.assert_changed();
}

/// The position is refused (410), and each listing that follows breaks off: what the listings do
/// not have stays, until one is whole.
#[scenario(unless = without_streaming_lists)]
fn watch_survives_an_expired_position() {
    let traffic = Traffic::start();
    let proxy = &traffic.cluster.proxy;
    proxy.inject(
        |request| request.query.contains("&resourceVersion="),
        Fault::gone(),
    );
    proxy.inject(
        |request| request.path == "/api/v1/nodes",
        Fault::CutAfter(1500),
    );
    proxy.take_requests();
    proxy.drop_connections();
    traffic.change();
    traffic.assert_unchanged();
    let requests = proxy.requests();
    let count = |status: u16| {
        let nodes = requests
            .iter()
            .filter(|request| request.path == "/api/v1/nodes");
        nodes.filter(|request| request.status() == status).count()
    };
    assert!(count(410) >= 2 && count(200) >= 2, "{requests:?}");
    proxy.clear();
    proxy.drop_connections();
    traffic.assert_changed();
}

/// The API server ends, its store is compacted, and it starts again: positions are too old for it.
#[scenario(unless = without_kubernetes)]
fn watch_survives_the_end_of_the_api_server() {
    let mut traffic = Traffic::start();
    let server = &mut traffic.cluster.server;
    server.kill();
    server.etcd().compact();
    traffic.assert_unchanged();
    traffic.cluster.server.start();
    traffic.change();
    traffic.assert_changed();
}

#[scenario(unless = without_kubernetes)]
fn missing_permission_is_named_and_granted_while_it_runs() {
    let cluster = Cluster::new(1, V4);
    let fault = Fault::forbidden("nodes is forbidden: User \"x\" cannot watch resource \"nodes\"");
    cluster
        .proxy
        .inject(|request| request.path == "/api/v1/nodes", fault);
    let mut daemon = cluster.start(1);
    daemon.wait_status(&["may not", "watch", "nodes", "ClusterRole"]);
    cluster.proxy.clear();
    daemon.wait_ready();
}
