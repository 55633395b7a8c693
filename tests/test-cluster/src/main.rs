//! `make test-cluster`: a whole cluster on this machine. API server, controller manager, scheduler,
//! and two nodes with containerd, kubelet and kube-proxy, each on a host of its own; the shipped
//! manifest runs our image in it. Each part fails by a panic; afterwards nothing is left.

mod control_plane;
mod go_flannel;
mod machine;
mod node;
mod parts;
mod report;
mod users;
mod workload;

use control_plane::ControlPlane;
use node::Node;
use report::{Report, step};
use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::exit,
};
use tests::Underlay;

/// The control plane and the nodes.
struct Cluster<'u> {
    control_plane: ControlPlane,
    nodes: Vec<Node<'u>>,
}

fn main() {
    let programs = machine::programs().unwrap_or_else(|reason| {
        eprintln!("test-cluster cannot run: {reason}");
        exit(1);
    });
    machine::enter();
    let mut report = Report::default();
    let underlay = Underlay::new(2);
    let mut cluster = report.part("a control plane and two nodes", || {
        start(&programs, &underlay)
    });
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        parts::run(&mut cluster, &programs, &mut report)
    }));
    report.print();
    if result.is_err() {
        cluster.print_logs();
        exit(1);
    }
}

fn start<'u>(programs: &machine::Programs, underlay: &'u Underlay) -> Cluster<'u> {
    runtimes::image::build_in(Path::new(workload::IMAGE_FOLDER));
    let control_plane = ControlPlane::start(programs, underlay);
    step("etcd, API server, controller manager and scheduler run");
    let nodes = (1..)
        .zip(&underlay.hosts)
        .map(|(number, host)| Node::start(programs, &control_plane, host, number))
        .collect();
    step("containerd, kubelet and kube-proxy run on two hosts");
    Cluster {
        control_plane,
        nodes,
    }
}

impl Cluster<'_> {
    fn print_logs(&self) {
        eprintln!("{}", self.control_plane.logs());
        for node in &self.nodes {
            eprintln!("{}: {}", node.name, node.logs());
        }
        for arguments in [
            "get nodes,pods -A -o wide",
            "-n kube-flannel logs --all-containers --prefix --tail=30 -l app=flannel",
            "-n kube-flannel describe pods",
            "get events -A",
        ] {
            let words: Vec<_> = arguments.split(' ').collect();
            let output = self.control_plane.try_kubectl(&words, "");
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
