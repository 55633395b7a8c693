//! `flanneld lease export | import`: a fleet moves to another store, and no packet is lost.

use nix::sys::signal::Signal;
use std::{process::Command, time::Duration};
use tests::{
    ApiServer, Etcd, Host, Pings, Process, Underlay,
    binaries::program,
    etcd::without_etcd,
    kubernetes::{Node, User, without_kubernetes},
    process::eventually,
    scenario, subnet_env, underlay,
};

const NET_CONF: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
const STORE: &str = "172.31.0.1:8888";
const TIMEOUT: Duration = Duration::from_secs(20);

/// The flags that name each store, for the node of this number (from 1).
#[derive(Clone)]
enum Store {
    Embedded,
    Etcd(String),
}

impl Store {
    fn flags(&self, node: usize) -> Vec<String> {
        match self {
            Store::Embedded if node == 1 => server_flags(),
            Store::Embedded => vec![format!("-remote={STORE}"), "-insecure".to_owned()],
            Store::Etcd(endpoints) => vec![format!("-etcd-endpoints={endpoints}")],
        }
    }
}

fn server_flags() -> Vec<String> {
    let flags = [
        "-listen",
        STORE,
        "-insecure",
        "-net-config-path=/run/net-conf.json",
        "-store=/run/leases.redb",
    ];
    flags.map(str::to_owned).to_vec()
}

fn flanneld(flags: &[String], more: &[&str]) -> Command {
    let mut command = Command::new(program("flanneld"));
    command.args(flags).args(more);
    command
}

fn start(host: &Host, flags: &[String]) -> Process {
    start_as(host, flags, &[])
}

fn start_as(host: &Host, flags: &[String], variables: &[(&str, &str)]) -> Process {
    let mut command = flanneld(
        flags,
        &["-ip-masq", "-healthz-ip=127.0.0.1", "-healthz-port=8081"],
    );
    command.envs(variables.iter().copied());
    let mut daemon = host.spawn(command);
    eventually("flanneld is ready", TIMEOUT, || {
        assert!(daemon.is_running(), "{}", daemon.output());
        let answer = host.try_sh("busybox wget -q -O - http://127.0.0.1:8081/readyz");
        answer.status.success().then_some(())
    });
    daemon
}

fn stop(mut daemon: Process) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait(TIMEOUT).success(), "{}", daemon.output());
}

/// A command on the host; its output.
#[track_caller]
fn lease(host: &Host, flags: &[String], words: &[&str]) -> String {
    let arguments = [&["lease"], words].concat();
    let output = host.run(|| flanneld(flags, &arguments).output().expect("flanneld"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {log}");
    log
}

#[scenario(unless = without_etcd)]
fn a_fleet_moves_to_etcd_and_back_under_traffic() {
    let underlay = Underlay::new(3);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    let hosts = &underlay.hosts;
    hosts[0].write("/run/net-conf.json", NET_CONF);
    let embedded = Store::Embedded;
    let in_etcd = Store::Etcd(etcd.endpoints());
    let mut daemons: Vec<Process> = (1..=3)
        .map(|node| start(&hosts[node - 1], &embedded.flags(node)))
        .collect();
    let subnets = |hosts: &[Host]| -> Vec<_> {
        let subnet = |host| subnet_env::value(host, "FLANNEL_SUBNET").expect("a subnet");
        hosts.iter().map(subnet).collect()
    };
    let before = subnets(hosts);
    let pods: Vec<_> = hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[1], &hosts[2]);
    let pings = Pings::start(&hosts[1], &hosts[2]);

    lease(
        &hosts[1],
        &embedded.flags(2),
        &["export", "/run/leases.json"],
    );
    let log = lease(
        &hosts[1],
        &in_etcd.flags(2),
        &["import", "/run/leases.json"],
    );
    assert!(log.contains("3 added, 0 already there"), "{log}");
    assert!(etcd.get("/coreos.com/network/config").is_some());
    move_all(hosts, &mut daemons, &in_etcd);
    assert_eq!(subnets(hosts), before, "after the move to etcd");

    lease(&hosts[0], &in_etcd.flags(1), &["export", "/run/back.json"]);
    hosts[0].sh("rm /run/leases.redb");
    let log = lease(&hosts[0], &server_flags(), &["import", "/run/back.json"]);
    assert!(log.contains("3 added, 0 already there"), "{log}");
    // the store comes first, so that the others find it
    for node in 1..=3 {
        stop(daemons.remove(0));
        daemons.push(start(&hosts[node - 1], &embedded.flags(node)));
    }
    assert_eq!(subnets(hosts), before, "after the move back");
    for (node, pod) in pods.iter().enumerate() {
        subnet_env::ping(pod, &hosts[(node + 1) % 3]);
    }
    pings.lose_nothing();
}

/// The node that has the store is the last one.
fn move_all(hosts: &[Host], daemons: &mut [Process], store: &Store) {
    for node in [3, 2, 1] {
        let flags = store.flags(node);
        let daemon = &mut daemons[node - 1];
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait(TIMEOUT).success(), "{}", daemon.output());
        *daemon = start(&hosts[node - 1], &flags);
    }
}

#[scenario(unless = without_kubernetes)]
fn nodes_of_kubernetes_keep_their_subnets_in_etcd() {
    let server = ApiServer::pooled();
    let underlay = Underlay::new(2);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    let hosts = &underlay.hosts;
    let kubeconfig = server.kubeconfig(&server.join(&underlay), User::Flannel);
    // the controller manager begins with the first subnet
    let podcidrs = ["10.244.0.0/24", "10.244.1.0/24"];
    let mut daemons = Vec::new();
    let kubernetes = vec![
        "-kube-subnet-mgr".to_owned(),
        format!("-kubeconfig-file={}", kubeconfig.display()),
        "-net-config-path=/run/net-conf.json".to_owned(),
    ];
    for (number, host) in hosts.iter().enumerate() {
        let node = Node::of_host(number + 1).pod_cidrs(&[podcidrs[number]]);
        server.create_node(&node);
        host.write("/run/net-conf.json", NET_CONF);
        daemons.push(start_as(
            host,
            &kubernetes,
            &[("NODE_NAME", &format!("host{}", number + 1))],
        ));
    }
    let pods: Vec<_> = hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], &hosts[1]);
    lease(&hosts[0], &kubernetes, &["export", "/run/leases.json"]);

    let in_etcd = Store::Etcd(etcd.endpoints()).flags(1);
    let refused = |words: &[&str]| {
        let arguments = [&["lease"], words].concat();
        let output = hosts[0].run(|| flanneld(&in_etcd, &arguments).output().expect("flanneld"));
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    etcd.put("/coreos.com/network/config", NET_CONF);
    let log = refused(&["import", "/run/leases.json"]);
    assert!(
        log.contains("1 added, 0 already there, 1 not imported"),
        "{log}"
    );
    assert!(
        log.contains("10.244.0.0-24 is not a subnet of this network"),
        "{log}"
    );
    let with_first = NET_CONF.replace(r#""EnableNF"#, r#""SubnetMin":"10.244.0.0","EnableNF"#);
    etcd.put("/coreos.com/network/config", &with_first);
    let log = lease(&hosts[0], &in_etcd, &["import", "/run/leases.json"]);
    assert!(log.contains("1 added, 1 already there"), "{log}");

    for (host, podcidr) in hosts.iter().zip(podcidrs) {
        stop(daemons.remove(0));
        daemons.push(start(host, &in_etcd));
        let subnet = subnet_env::value(host, "FLANNEL_SUBNET").expect("a subnet");
        assert_eq!(subnet.replace(".1/24", ".0/24"), podcidr);
    }
    subnet_env::ping(&pods[0], &hosts[1]);
    subnet_env::ping(&pods[1], &hosts[0]);

    let arguments = ["lease", "import", "/run/leases.json"];
    let output = hosts[0].run(|| {
        flanneld(&kubernetes, &arguments)
            .output()
            .expect("flanneld")
    });
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && log.contains("a lease cannot be imported"),
        "{log}"
    );
}
