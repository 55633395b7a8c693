//! Traffic between pods: pings, TCP, host ports, and a packet on the underlay.

use crate::{
    capture::{self, Capture},
    cluster::{Attached, Cluster},
    print::step,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tests::underlay;

const TIMEOUT: Duration = Duration::from_secs(3);

fn pairs(cluster: &Cluster) -> impl Iterator<Item = (&Attached, &Attached)> {
    let others = move |from| cluster.pods.iter().map(move |to| (from, to));
    cluster
        .pods
        .iter()
        .flat_map(others)
        .filter(|(from, to)| from.name != to.name)
}

/// Pings between every pair of pods in both families: ttl 64 on the same host, 62 across hosts,
/// because each of them routes.
pub(crate) fn pings(cluster: &Cluster) {
    let (mut near, mut far) = (0, 0);
    for (from, to) in pairs(cluster) {
        let ttl = if from.host == to.host { 64 } else { 62 };
        for ip in [&to.ip, &to.ip6] {
            let answer = cluster.pod(from).sh(&format!("ping -n -c1 -W3 {ip}"));
            assert!(
                answer.contains(&format!("ttl={ttl} ")),
                "{} -> {ip}: expected ttl {ttl}:\n{answer}",
                from.name
            );
        }
        if ttl == 64 { near += 2 } else { far += 2 }
    }
    step(&format!(
        "ping: {near} of {near} on the same host (ttl 64), {far} of {far} across hosts (ttl 62), IPv4 and IPv6"
    ));
}

/// TCP between every pair of pods; each serves its name on port 80.
pub(crate) fn tcp(cluster: &Cluster) {
    for pod in &cluster.pods {
        let name = pod.name.clone();
        let listener = cluster
            .pod(pod)
            .run(|| TcpListener::bind("[::]:80").expect("listen in the pod"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // the client may have closed the connection
                let _ = { stream }.write_all(name.as_bytes());
            }
        });
    }
    let mut count = 0;
    for (from, to) in pairs(cluster) {
        for address in [format!("{}:80", to.ip), format!("[{}]:80", to.ip6)] {
            assert_serves(cluster, from, to, &address);
            count += 1;
        }
    }
    step(&format!("TCP: {count} of {count} pod to pod"));
}

/// TCP from every pod to the host port of every pod on another host.
pub(crate) fn host_port(cluster: &Cluster) {
    let mut count = 0;
    for (from, to) in pairs(cluster).filter(|(from, to)| from.host != to.host) {
        let node = to.host + 1;
        for address in [
            format!("{}:{}", underlay::ip(node), to.host_port),
            format!("[{}]:{}", underlay::ip6(node), to.host_port),
        ] {
            assert_serves(cluster, from, to, &address);
            count += 1;
        }
    }
    step(&format!(
        "host ports: {count} of {count} through another node's address"
    ));
}

/// Asserts that the pod `to` answers at `address`.
fn assert_serves(cluster: &Cluster, from: &Attached, to: &Attached, address: &str) {
    let name = fetch(cluster, from, address);
    assert_eq!(name, to.name, "{} -> {address}", from.name);
}

fn fetch(cluster: &Cluster, from: &Attached, address: &str) -> String {
    let target: SocketAddr = address.parse().expect("address");
    cluster.pod(from).run(|| {
        let mut stream = TcpStream::connect_timeout(&target, TIMEOUT)
            .unwrap_or_else(|error| panic!("{} -> {target}: {error}", from.name));
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .unwrap_or_else(|error| panic!("{} -> {target}: {error}", from.name));
        text
    })
}

/// Prints a packet between two pods of different hosts as it is on the underlay.
pub(crate) fn encapsulated(cluster: &Cluster) {
    let (from, to) = pairs(cluster)
        .find(|(from, to)| from.host != to.host)
        .expect("two hosts");
    let capture = cluster.underlay.switch.run(Capture::open);
    cluster.pod(from).sh(&format!("ping -n -c1 -W3 {}", to.ip));
    let frame = capture
        .first(is_encapsulated_ping)
        .expect("the ping on the underlay");
    step(&format!(
        "the underlay, while {} pings {} ({} bytes, as tcpdump reads them):",
        from.name,
        to.name,
        frame.len()
    ));
    for line in capture::described(&frame).lines() {
        println!("    {line}");
    }
}

/// Ethernet, IPv4 without options, UDP to port 8472, vxlan, Ethernet, IPv4 with ICMP.
fn is_encapsulated_ping(frame: &[u8]) -> bool {
    frame.get(36..38) == Some(&8472u16.to_be_bytes())
        && frame.get(12..14) == Some(&[8, 0])
        && frame.get(73) == Some(&1)
}
