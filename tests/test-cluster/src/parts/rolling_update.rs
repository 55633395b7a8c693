//! A rolling update of the daemon set while pods of two nodes talk.

use super::install;
use crate::{
    Cluster,
    report::step,
    workload::{REPLICAS, Running},
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tests::{Pod, Process};

/// Between two messages.
const INTERVAL: Duration = Duration::from_millis(5);
/// No message may come later than this after the one before it.
const LONGEST_GAP: Duration = Duration::from_secs(1);
const PORT: u16 = 5000;

pub(super) fn under_traffic(cluster: &Cluster<'_>) {
    let traffic = Traffic::start(cluster);
    let before = daemon_pods(cluster);
    let restart = "-n kube-flannel rollout restart daemonset/kube-flannel-ds";
    cluster.control_plane.kubectl(restart);
    install::wait_rolled_out(cluster);
    let after = daemon_pods(cluster);
    assert!(
        before.iter().all(|pod| !after.contains(pod)),
        "{before:?} {after:?}"
    );
    step("each pod of kube-flannel-ds is replaced");
    traffic.end();
}

/// ping and TCP between pods of both nodes, in both directions.
pub(super) struct Traffic {
    pings: [Ping; 2],
    streams: [Stream; 2],
}

impl Traffic {
    pub(super) fn start(cluster: &Cluster<'_>) -> Traffic {
        let pods = cluster.ready_pods("web", REPLICAS);
        let [one, other] =
            [0, 1].map(|index| Cluster::on_node(&pods, &cluster.nodes[index].name)[0]);
        Traffic {
            pings: [
                Ping::start(cluster, one, other),
                Ping::start(cluster, other, one),
            ],
            streams: [
                Stream::start(cluster, one, other),
                Stream::start(cluster, other, one),
            ],
        }
    }

    /// Asserts that nothing was lost.
    #[track_caller]
    pub(super) fn end(self) {
        for ping in self.pings {
            step(&ping.end());
        }
        for stream in self.streams {
            step(&stream.end());
        }
    }
}

fn daemon_pods(cluster: &Cluster<'_>) -> Vec<String> {
    let names = cluster
        .control_plane
        .kubectl("-n kube-flannel get pods -l app=flannel -o name");
    names.lines().map(str::to_owned).collect()
}

fn pod<'u>(cluster: &Cluster<'u>, running: &Running) -> Pod<'u> {
    let node = cluster.nodes.iter().find(|node| node.name == running.node);
    node.expect("a node of the cluster").pod(&running.ip)
}

/// `ping` from one pod to another, 20 times a second.
struct Ping {
    process: Process,
    description: String,
}

impl Ping {
    fn start(cluster: &Cluster<'_>, from: &Running, to: &Running) -> Ping {
        let mut command = Command::new("ping");
        command.args(["-n", "-q", "-i", "0.05", &to.ip]);
        Ping {
            process: pod(cluster, from).run(|| Process::start(command)),
            description: format!("{} -> {}", from.node, to.node),
        }
    }

    #[track_caller]
    fn end(mut self) -> String {
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.process.wait(Duration::from_secs(10));
        let output = self.process.output();
        let line = output
            .lines()
            .find(|line| line.contains("packets transmitted"));
        let line = line.unwrap_or_else(|| panic!("ping: {output}"));
        let numbers: Vec<u32> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .take(2)
            .collect();
        // the last request may be on its way
        assert!(
            numbers[0] - numbers[1] <= 1,
            "{}: {output}",
            self.description
        );
        format!(
            "ping {}: {} of {} answered",
            self.description, numbers[1], numbers[0]
        )
    }
}

/// A TCP connection from one pod to another on which numbered messages flow.
struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<(u64, Duration)>,
    description: String,
}

impl Stream {
    fn start(cluster: &Cluster<'_>, from: &Running, to: &Running) -> Stream {
        let listener = pod(cluster, to).run(|| TcpListener::bind((to.ip.as_str(), PORT)));
        let listener = listener.expect("listen");
        let sender = pod(cluster, from).run(|| TcpStream::connect((to.ip.as_str(), PORT)));
        let sender = sender.expect("connect");
        let (receiver, _) = listener.accept().expect("accept");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Stream {
            stop,
            sender: thread::spawn(move || send(sender, &stopped)),
            receiver: thread::spawn(move || receive(receiver)),
            description: format!("{} -> {}", from.node, to.node),
        }
    }

    #[track_caller]
    fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("sender");
        let (received, longest) = self.receiver.join().expect("receiver");
        assert_eq!(received, sent, "{}", self.description);
        assert!(longest < LONGEST_GAP, "{}: {longest:?}", self.description);
        format!(
            "TCP {}: {received} of {sent} messages in order, the longest pause {} ms",
            self.description,
            longest.as_millis()
        )
    }
}

/// Sends messages until it is stopped; their number.
fn send(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&number.to_be_bytes()).expect("send");
        number += 1;
        thread::sleep(INTERVAL);
    }
    number
}

/// The number of messages until the end of the connection, and the longest pause between two.
fn receive(mut stream: TcpStream) -> (u64, Duration) {
    let (mut number, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    let mut message = [0; 8];
    while stream.read_exact(&mut message).is_ok() {
        assert_eq!(u64::from_be_bytes(message), number, "in order");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        number += 1;
    }
    (number, longest)
}
