//! Two hosts; pods on the first, connected by the test, with servers that answer a fixed word.

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};
use tests::{Cni, Host, Outcome, Pod, Underlay, binaries};

pub(super) const BIN: &str = binaries::BIN;

/// Two hosts with the suite installed.
pub(super) fn stage() -> Underlay {
    let net = Underlay::new(2);
    net.hosts[0].run(|| binaries::install_suite(BIN.as_ref()));
    net
}

/// A pod behind a veth of its own, with 10.9.N.2 and fd09:N::2.
pub(super) fn pod(host: &Host, number: u8) -> Pod<'_> {
    let pod = host.pod(&format!("pod{number}"));
    // a host forwards IPv6 only after duplicate address detection of its link-local address
    let no_dad = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
    pod.sh(no_dad);
    host.sh(&format!(
        "{no_dad} && ip link add veth{number} type veth peer name eth0 netns pod{number} \
         && ip addr add 10.9.{number}.1/24 dev veth{number} \
         && ip addr add fd09:{number}::1/64 dev veth{number} nodad && ip link set veth{number} up"
    ));
    pod.sh(&format!(
        "ip addr add 10.9.{number}.2/24 dev eth0 && ip addr add fd09:{number}::2/64 dev eth0 nodad \
         && ip link set eth0 up && ip route add default via 10.9.{number}.1 \
         && ip -6 route add default via fd09:{number}::1"
    ));
    pod
}

/// A mapping as a runtime passes it.
pub(super) fn port(host_port: u16, container_port: u16, protocol: &str) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "protocol": protocol})
}

/// portmap's configuration for pod N with these mappings.
pub(super) fn config(number: u8, mappings: Value, more: Value) -> Value {
    let mut config = json!({
        "name": "cbr0", "cniVersion": "1.1.0", "type": "portmap", "backend": "nftables",
        "runtimeConfig": {"portMappings": mappings},
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": format!("veth{number}")},
                {"name": "eth0", "sandbox": format!("/run/netns/pod{number}")}
            ],
            "ips": [
                {"interface": 1, "address": format!("10.9.{number}.2/24")},
                {"interface": 1, "address": format!("fd09:{number}::2/64")}
            ]
        }
    });
    for (key, value) in more.as_object().expect("object") {
        config[key] = value.clone();
    }
    config
}

/// One verb for pod N.
pub(super) fn call(host: &Host, verb: &str, number: u8, config: &Value) -> Outcome {
    let cni = Cni::new(
        BIN,
        &format!("container{number}"),
        &format!("/run/netns/pod{number}"),
    );
    cni.call(host, verb, "portmap", &config.to_string())
}

/// The pods 1 and 2, which answer "one" and "two" at TCP port 80.
pub(super) fn two_servers(host: &Host) -> (Pod<'_>, Pod<'_>) {
    let pods = (pod(host, 1), pod(host, 2));
    serve_tcp(&pods.0, 80, "one");
    serve_tcp(&pods.1, 80, "two");
    pods
}

/// Answers each TCP connection with `word`.
pub(super) fn serve_tcp(pod: &Pod, port: u16, word: &'static str) {
    let listener = pod.run(|| TcpListener::bind(("::", port)).expect("bind"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connection");
            // the client may have closed the connection
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

/// Answers each UDP packet with `word`.
pub(super) fn serve_udp(pod: &Pod, port: u16, word: &'static str) {
    let socket = pod.run(|| UdpSocket::bind(("::", port)).expect("bind"));
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let (_, from) = socket.recv_from(&mut buffer).expect("receive");
            // the client may have closed its socket
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
}

const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

fn address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The answer of a TCP server; None without a connection. Runs in the caller's namespace.
pub(super) fn ask_tcp(to: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address(to), REPLY_TIMEOUT).ok()?;
    stream
        .set_read_timeout(Some(REPLY_TIMEOUT))
        .expect("timeout");
    let mut word = String::new();
    stream.read_to_string(&mut word).ok()?;
    Some(word)
}

/// The answer of a UDP server to this socket.
pub(super) fn ask_udp(socket: &UdpSocket, to: &str) -> Option<String> {
    socket
        .set_read_timeout(Some(REPLY_TIMEOUT))
        .expect("timeout");
    socket.send_to(b"?", address(to)).ok()?;
    let mut buffer = [0; 64];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

pub(super) fn ruleset(host: &Host) -> String {
    host.sh("nft list ruleset")
}

/// Asserts that the packet filter has nothing of any pod.
#[track_caller]
pub(super) fn assert_nothing_left(host: &Host) {
    let rules = ruleset(host);
    for trace in ["10.9.", "fd09:", "container", "elements"] {
        assert!(!rules.contains(trace), "{trace} is left in\n{rules}");
    }
}
