//! Traffic: pings, TCP, a host port, and a look at the underlay.

use crate::{
    capture::{self, Capture},
    say::step,
    stage::{Attached, Stage},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tests::underlay;

const LIMIT: Duration = Duration::from_secs(3);

fn pairs(stage: &Stage) -> impl Iterator<Item = (&Attached, &Attached)> {
    let others = move |from| stage.pods.iter().map(move |to| (from, to));
    stage
        .pods
        .iter()
        .flat_map(others)
        .filter(|(from, to)| from.name != to.name)
}

/// Every pair in both families: ttl 64 on the same host, 62 across (each host's routing takes one).
pub fn pings(stage: &Stage) {
    let (mut near, mut far) = (0, 0);
    for (from, to) in pairs(stage) {
        let ttl = if from.host == to.host { 64 } else { 62 };
        for ip in [&to.ip, &to.ip6] {
            let answer = stage.pod(from).sh(&format!("ping -n -c1 -W3 {ip}"));
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

/// Every pair over TCP; each pod serves its own name on port 80.
pub fn tcp(stage: &Stage) {
    for pod in &stage.pods {
        let name = pod.name.clone();
        let listener = stage
            .pod(pod)
            .run(|| TcpListener::bind("[::]:80").expect("listen in the pod"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // a client that goes away early is its own affair
                let _ = { stream }.write_all(name.as_bytes());
            }
        });
    }
    let mut count = 0;
    for (from, to) in pairs(stage) {
        for address in [format!("{}:80", to.ip), format!("[{}]:80", to.ip6)] {
            assert_eq!(
                fetch(stage, from, &address),
                to.name,
                "{} -> {address}",
                from.name
            );
            count += 1;
        }
    }
    step(&format!("TCP: {count} of {count} pod to pod"));
}

/// Every pod to every pod of another host through that host's port.
pub fn host_port(stage: &Stage) {
    let mut count = 0;
    for (from, to) in pairs(stage).filter(|(from, to)| from.host != to.host) {
        let node = to.host + 1;
        for address in [
            format!("{}:{}", underlay::ip(node), to.host_port),
            format!("[{}]:{}", underlay::ip6(node), to.host_port),
        ] {
            assert_eq!(
                fetch(stage, from, &address),
                to.name,
                "{} -> {address}",
                from.name
            );
            count += 1;
        }
    }
    step(&format!(
        "host ports: {count} of {count} through another node's address"
    ));
}

fn fetch(stage: &Stage, from: &Attached, address: &str) -> String {
    let target: SocketAddr = address.parse().expect("address");
    stage.pod(from).run(|| {
        let mut stream = TcpStream::connect_timeout(&target, LIMIT)
            .unwrap_or_else(|error| panic!("{} -> {target}: {error}", from.name));
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .unwrap_or_else(|error| panic!("{} -> {target}: {error}", from.name));
        text
    })
}

/// Shows a packet between two hosts' pods on the underlay.
pub fn encapsulated(stage: &Stage) {
    let (from, to) = pairs(stage)
        .find(|(from, to)| from.host != to.host)
        .expect("two hosts");
    let capture = stage.underlay.switch.run(Capture::open);
    stage.pod(from).sh(&format!("ping -n -c1 -W3 {}", to.ip));
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

/// Ethernet, IPv4 without options, UDP to vxlan's port, vxlan, Ethernet, IPv4 with ICMP inside.
fn is_encapsulated_ping(frame: &[u8]) -> bool {
    frame.get(36..38) == Some(&8472u16.to_be_bytes())
        && frame.get(12..14) == Some(&[8, 0])
        && frame.get(73) == Some(&1)
}
