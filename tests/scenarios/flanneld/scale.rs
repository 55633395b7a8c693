//! Thousands of peers: the time and the memory that it takes to program them.

use super::{
    cluster::{Cluster, V4, get, main_routes},
    data_path,
};
use linux_net::Netlink;
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};
use tests::{
    Host,
    process::eventually,
    scenario,
    usage::{peak_memory, peak_own_memory, processor_time},
};

/// Peak memory at that many peers, in KiB.
const MAX_MEMORY: u64 = 30 * 1024;
/// What a client's start takes of a processor at that many peers.
const MAX_START: Duration = Duration::from_secs(1);
/// Peak memory of the lease server, in KiB.
const MAX_SERVER_MEMORY: u64 = 40 * 1024;
/// Of a debug build, at fewer peers, what is not code.
const MAX_OWN_MEMORY: u64 = 16 * 1024;
/// What a peer takes in the process of WireGuard in user space, in KiB: most of it are the keys of
/// eight sessions.
const WIREGUARD_PEER: u64 = 25;

#[scenario]
fn thousands_of_peers_are_programmed_within_30_mib() {
    // a debug build is ten times slower
    let optimised = !tests::binaries::folder().ends_with("debug");
    let peers = if optimised { 5_000 } else { 500 };
    let net_conf = V4.replace("10.244.0.0/16", "10.0.0.0/8");
    let mut cluster = Cluster::idle(2, &net_conf);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    join(cluster.host(1), peers);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually(
        "peers are programmed as they join",
        Duration::from_secs(60),
        || (routes(cluster.host(1)) == peers + 1).then_some(()),
    );
    // as after a reboot
    cluster.kill(2);
    cluster.host(2).sh("ip link del flannel.1");
    let start = Instant::now();
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let took = start.elapsed();
    let used = processor_time(cluster.daemon(2).pid());
    assert_eq!(
        routes(cluster.host(2)),
        peers + 1,
        "ready means that every peer known is programmed"
    );
    let pid = cluster.daemon(2).pid();
    let (peak, own) = (peak_memory(pid), peak_own_memory(pid));
    println!(
        "{peers} peers: ready {took:?} after the start, {used:?} of a processor, peak memory {peak} KiB, {own} without code"
    );
    // of a machine that does nothing else it is the time until the last route
    assert!(!optimised || used < MAX_START, "{used:?} of a processor");
    assert!(!optimised || peak <= MAX_MEMORY, "peak memory {peak} KiB");
    assert!(optimised || own <= MAX_OWN_MEMORY, "peak memory {own} KiB");
    // one route of thousands is deleted
    let host = cluster.host(2);
    let route = host
        .sh("ip route show dev flannel.1 | tail -n1 | cut -d' ' -f1")
        .trim()
        .to_owned();
    host.sh(&format!("ip route del {route}"));
    eventually(
        "one route of thousands is restored",
        Duration::from_secs(2),
        || (routes(host) == peers + 1).then_some(()),
    );
}

/// The memory that the backends take which are not [`V4`]'s: of the daemon, and of the process that
/// moves the packets.
#[scenario]
fn thousands_of_peers_of_each_backend_take_30_mib() {
    let optimised = !tests::binaries::folder().ends_with("debug");
    let peers = if optimised { 5_000 } else { 500 };
    let most = if optimised {
        MAX_MEMORY
    } else {
        MAX_OWN_MEMORY
    };
    let measured = if optimised {
        peak_memory
    } else {
        peak_own_memory
    };
    for (backend, data, process) in [
        (r#""Type":"host-gw""#, "", None),
        (r#""Type":"udp""#, "", Some(("flannel0", most))),
        (
            r#""Type":"wireguard","Userspace":true"#,
            r#","BackendData":{"PublicKey":"KEY","Port":51820}"#,
            Some(("flannel-wg", most + peers as u64 * WIREGUARD_PEER)),
        ),
    ] {
        let net_conf = V4
            .replace("10.244.0.0/16", "10.0.0.0/8")
            .replace(r#""Type":"vxlan""#, backend);
        let mut cluster = Cluster::idle(2, &net_conf);
        for (node, host) in (1..).zip(&cluster.underlay.hosts) {
            host.sh(&format!(
                "ip addr add 172.31.0.{node}/16 dev eth0 && ip addr del 172.31.0.{node}/24 dev eth0 \
                 && ip route replace default via 172.31.0.254"
            ));
        }
        cluster.start(1, &[]);
        cluster.wait_ready(1);
        let kind = backend.split('"').nth(3).expect("a type");
        let kind = match kind {
            "udp" => String::new(),
            kind => format!(r#","BackendType":"{kind}""#),
        };
        cluster.host(1).run(|| {
            for number in 0..peers {
                let (high, low) = (1 + number / 250, 1 + number % 250);
                let data = data.replace("KEY", &format!("{number:042}A="));
                let attrs = format!(r#""PublicIP":"172.31.{high}.{low}","PublicIPv6":null"#);
                request("POST /v1/_/leases", &format!("{{{attrs}{kind}{data}}}"));
            }
        });
        cluster.start(2, &[]);
        let host = cluster.host(2);
        let nodes = format!(", {} nodes", peers + 1);
        eventually("they are programmed", Duration::from_secs(60), || {
            let answer = get(host, "/readyz?verbose");
            (answer.contains("flanneld is ready") && answer.contains(&nodes)).then_some(())
        });
        let process = process.map(|(device, most)| (data_path::process(host, device) as u32, most));
        let daemon = cluster.daemon(2).pid();
        for (pid, most) in std::iter::once((daemon, most)).chain(process) {
            let peak = measured(pid);
            println!("{peers} peers, {backend}: peak memory {peak} KiB of at most {most}");
            assert!(peak <= most, "{backend}: peak memory {peak} KiB");
        }
    }
}

/// Nodes come and go, many at a time: the server needs no more memory after that.
#[scenario]
fn lease_server_stays_within_40_mib_when_thousands_of_nodes_come_and_go() {
    let optimised = !tests::binaries::folder().ends_with("debug");
    let peers = if optimised { 5_000 } else { 500 };
    let net_conf = V4.replace("10.244.0.0/16", "10.0.0.0/8");
    let mut cluster = Cluster::idle(1, &net_conf);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    for round in 1..=3 {
        let threads = 50;
        thread::scope(|scope| {
            for part in 0..threads {
                let numbers = (part..peers).step_by(threads);
                scope.spawn(move || join_all(host, numbers));
            }
        });
        let what = format!("peers of round {round} are programmed");
        let is_whole = || (routes(host) == peers).then_some(());
        eventually(&what, Duration::from_secs(60), is_whole);
        if round < 3 {
            leave(host, peers);
        }
    }
    let pid = cluster.daemon(1).pid();
    let (peak, own) = (peak_memory(pid), peak_own_memory(pid));
    println!("{peers} leases: peak memory of the server {peak} KiB, {own} without code");
    assert!(
        !optimised || peak <= MAX_SERVER_MEMORY,
        "peak memory {peak} KiB"
    );
    assert!(optimised || own <= MAX_OWN_MEMORY, "peak memory {own} KiB");
}

/// All but this node's own lease are revoked.
fn leave(host: &Host, peers: usize) {
    let listed = host.sh("curl -s http://172.31.0.1:8888/v1/_/leases");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let leases = listed["snapshot"].as_array().expect("leases");
    assert_eq!(leases.len(), peers + 1);
    host.run(|| {
        let others = leases
            .iter()
            .filter(|lease| lease["Attrs"]["PublicIP"] != "172.31.0.1");
        for lease in others {
            let subnet = lease["Subnet"].as_str().expect("a subnet");
            let path = format!("/v1/_/leases/{}", subnet.replace('/', "-"));
            request(&format!("DELETE {path}"), "");
        }
    });
    let gone = || (routes(host) == 0).then_some(());
    eventually("their routes are gone", Duration::from_secs(60), gone);
}

/// That many nodes acquire a lease.
fn join(host: &Host, peers: usize) {
    join_all(host, 0..peers);
}

/// The nodes with these numbers acquire a lease.
fn join_all(host: &Host, numbers: impl Iterator<Item = usize> + Send) {
    host.run(|| {
        for number in numbers {
            let (high, low) = (number >> 8, number & 0xff);
            let body = format!(
                r#"{{"PublicIP":"192.168.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:01:{high:02x}:{low:02x}"}}}}"#
            );
            request("POST /v1/_/leases", &body);
        }
    });
}

#[track_caller]
fn request(method_and_path: &str, body: &str) {
    let mut stream = TcpStream::connect("172.31.0.1:8888").expect("connect");
    let length = body.len();
    write!(
        stream,
        "{method_and_path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{method_and_path}: {answer}"
    );
}

fn routes(host: &Host) -> usize {
    host.run(|| {
        let routes = main_routes(&mut Netlink::open().expect("netlink"));
        routes.iter().filter(|route| route.onlink).count()
    })
}
