//! flanneld in a large cluster, on Kubernetes and on etcd, beside the Go flanneld: from its start
//! to the last route, its peak memory, the requests that it makes, and the processor time that the
//! kubelets' status updates cost.

use crate::{
    contender::Contender,
    contender::OURS,
    measure::{Measure, Unit},
};
use linux_net::{Netlink, route::Filter};
use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tests::{
    ApiServer, Etcd, FaultProxy, GoFlanneld, Host, Process, Underlay,
    binaries::program,
    go_flanneld::without_kubernetes_and_go_flanneld,
    kubernetes::{Node, User},
    underlay,
    usage::{peak_memory, processor_time},
};

const NET_CONF: &str =
    r#"{"Network":"10.0.0.0/8","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
const GO: &str = "go flanneld 0.28.10";
const SIZES: [usize; 2] = [1_000, 5_000];
const ROUNDS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(120);
/// A dump of 5,000 routes takes 15 ms.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Requests that follow the last route: annotations, the node's condition.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// Between two status updates of a kubelet.
const UPDATE_INTERVAL: Duration = Duration::from_secs(10);

/// Three rounds each, interleaved; the store stays as it is.
pub(super) fn run(_contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    if let Some(reason) = without_kubernetes_and_go_flanneld() {
        println!("managers left out: {reason}");
        return Vec::new();
    }
    let mut measures = Vec::new();
    for size in SIZES {
        measures.extend(on_kubernetes(size));
        measures.extend(on_etcd(size));
    }
    measures
}

fn on_kubernetes(size: usize) -> Vec<Measure> {
    let server = ApiServer::new();
    server.create_nodes((0..size).map(Node::of_fleet));
    server.create_node(&own_node());
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    let direct = server.kubeconfig(&server.join(&underlay), User::Flannel);
    let name = format!("Kubernetes, {size} nodes");
    let mut measures = timed(&name, size, host, |ours| {
        kubernetes(ours, host, "host1", &direct)
    });
    let proxy = FaultProxy::kubernetes(&server, &underlay.switch, "172.31.0.254:6443");
    let counted = server.kubeconfig(&proxy.url(), User::Flannel);
    let mut requests = Measure::new(format!("{name}: API requests at start"), Unit::Count);
    for ours in [true, false] {
        forget(host);
        server.delete_node("host1");
        server.create_node(&own_node());
        proxy.take_requests();
        let mut daemon = kubernetes(ours, host, "host1", &counted);
        wait_for_routes(host, &mut daemon, size);
        thread::sleep(SETTLE_TIME);
        requests.add(contender(ours), proxy.take_requests().len() as f64);
        daemon.end();
    }
    measures.push(requests);
    measures.push(idle(&name, size, host, &server, &direct));
    measures
}

/// The processor time that the kubelets' status updates cost: 5,000 kubelets write 500 a second, so
/// 10 ms are 1 % of a core.
fn idle(name: &str, size: usize, host: &Host, server: &ApiServer, kubeconfig: &Path) -> Measure {
    let title = format!("{name}: processor time for 500 status updates");
    let mut measure = Measure::new(title, Unit::Ms);
    let names: Vec<String> = (0..size).map(|number| format!("node-{number}")).collect();
    for _ in 0..ROUNDS {
        for ours in [true, false] {
            forget(host);
            let mut daemon = kubernetes(ours, host, "host1", kubeconfig);
            wait_for_routes(host, &mut daemon, size);
            let kubelets = server.simulate_kubelets(names.clone(), UPDATE_INTERVAL);
            thread::sleep(SETTLE_TIME);
            let (sent, used) = (kubelets.sent(), processor_time(daemon.pid()));
            thread::sleep(2 * UPDATE_INTERVAL);
            let sent = kubelets.sent() - sent;
            let used = processor_time(daemon.pid()) - used;
            measure.add_time(contender(ours), used.mul_f64(500.0 / sent as f64));
            drop(kubelets);
            daemon.end();
        }
    }
    measure
}

/// A node that never ran flanneld.
fn own_node() -> Node {
    Node::of_host(1).pod_cidrs(&["10.0.1.0/24"])
}

fn on_etcd(size: usize) -> Vec<Measure> {
    let underlay = Underlay::new(1);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    etcd.put("/coreos.com/network/config", NET_CONF);
    fill(&etcd, size);
    let host = &underlay.hosts[0];
    let endpoints = etcd.endpoints();
    timed(&format!("etcd, {size} nodes"), size, host, |ours| {
        if !ours {
            return Daemon::Go(GoFlanneld::etcd(host, &endpoints));
        }
        let mut command = flanneld();
        command.arg(format!("-etcd-endpoints={endpoints}"));
        Daemon::Ours(host.spawn(command))
    })
}

/// Start to last route, and peak memory.
fn timed(name: &str, size: usize, host: &Host, start: impl Fn(bool) -> Daemon) -> Vec<Measure> {
    let mut time = Measure::new(format!("{name}: start to last route"), Unit::Ms);
    let mut memory = Measure::new(format!("{name}: peak memory"), Unit::Kb);
    for _ in 0..ROUNDS {
        for ours in [true, false] {
            forget(host);
            let started = Instant::now();
            let mut daemon = start(ours);
            wait_for_routes(host, &mut daemon, size);
            time.add_time(contender(ours), started.elapsed());
            memory.add(contender(ours), peak_memory(daemon.pid()) as f64 * 1.024);
            daemon.end();
        }
    }
    vec![time, memory]
}

pub(super) enum Daemon {
    Ours(Process),
    Go(GoFlanneld),
}

impl Daemon {
    pub(super) fn pid(&mut self) -> u32 {
        match self {
            Daemon::Ours(process) => process.pid(),
            Daemon::Go(daemon) => daemon.process().pid(),
        }
    }

    fn output(&self) -> String {
        match self {
            Daemon::Ours(process) => process.output(),
            Daemon::Go(daemon) => daemon.output(),
        }
    }

    pub(super) fn end(self) {
        match self {
            Daemon::Ours(mut process) => {
                process.signal(nix::sys::signal::Signal::SIGKILL);
                process.wait(TIMEOUT);
            }
            Daemon::Go(daemon) => daemon.kill(),
        }
    }
}

pub(super) fn contender(ours: bool) -> &'static str {
    if ours { OURS } else { GO }
}

pub(super) fn kubernetes(ours: bool, host: &Host, node: &str, kubeconfig: &Path) -> Daemon {
    if !ours {
        return Daemon::Go(GoFlanneld::kubernetes(host, node, kubeconfig, NET_CONF));
    }
    host.write("/run/net-conf.json", NET_CONF);
    let mut command = flanneld();
    command
        .arg("-kube-subnet-mgr")
        .arg(format!("-kubeconfig-file={}", kubeconfig.display()))
        .arg("-net-config-path=/run/net-conf.json")
        .env("NODE_NAME", node);
    Daemon::Ours(host.spawn(command))
}

fn flanneld() -> Command {
    let mut command = Command::new(program("flanneld"));
    command.args(["-ip-masq", "-healthz-ip=127.0.0.1", "-healthz-port=8081"]);
    command
}

/// As after a reboot.
pub(super) fn forget(host: &Host) {
    host.try_sh("ip link delete flannel.1");
    host.try_sh("rm -rf /run/flannel /var/lib/flannel");
}

/// Waits for a route to each node, while the daemon runs.
pub(super) fn wait_for_routes(host: &Host, daemon: &mut Daemon, count: usize) {
    let deadline = Instant::now() + TIMEOUT;
    host.run(|| {
        let mut netlink = Netlink::open().expect("netlink");
        loop {
            let routes = netlink.routes(Filter::default()).expect("routes");
            let found = routes.iter().filter(|route| route.onlink).count();
            if found >= count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{found} of {count} routes:\n{}",
                daemon.output()
            );
            thread::sleep(POLL_INTERVAL);
        }
    });
}

/// Writes that many leases.
fn fill(etcd: &Etcd, size: usize) {
    let leases: Vec<_> = (0..size).map(lease).collect();
    etcd.put_leased(&leases);
}

/// The key and the value of a lease.
fn lease(number: usize) -> (String, String) {
    let (high, low) = (0x80 | number >> 8, number & 0xff);
    let value = format!(
        r#"{{"PublicIP":"198.18.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:{high:02x}:{low:02x}"}}}}"#
    );
    let key = format!("/coreos.com/network/subnets/10.{high}.{low}.0-24");
    (key, value)
}
