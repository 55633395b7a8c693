//! flanneld with the embedded lease store: a client's cold start, and the memory of both sides.

use super::managers::{Daemon, forget, wait_for_routes};
use crate::{
    contender::{Contender, OURS},
    measure::{Measure, Unit},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Instant,
};
use tests::{Host, Underlay, binaries::program, underlay, usage::peak_memory};

const NET_CONF: &str =
    r#"{"Network":"10.0.0.0/8","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
const SIZES: [usize; 2] = [1_000, 5_000];
const ROUNDS: usize = 5;
/// Nodes that join at the same time.
const THREADS: usize = 32;

pub(super) fn run(_contenders: &[Contender], _rounds: usize) -> Vec<Measure> {
    SIZES.into_iter().flat_map(cold_start).collect()
}

/// From nothing to the last route, as after a reboot.
fn cold_start(size: usize) -> Vec<Measure> {
    let underlay = Underlay::new(2);
    let [server, client] = &underlay.hosts[..] else {
        return Vec::new();
    };
    let store = format!("{}:8888", underlay::ip(1));
    server.write("/run/net-conf.json", NET_CONF);
    let mut command = flanneld();
    command.args(["-listen", &store, "-net-config-path=/run/net-conf.json"]);
    let mut serving = Daemon::Ours(server.spawn(command));
    wait_for_routes(server, &mut serving, 0);
    join(server, &store, size);
    wait_for_routes(server, &mut serving, size);
    let name = format!("lease server, {size} nodes");
    let mut time = Measure::new(format!("{name}: start to last route"), Unit::Ms);
    let mut memory = Measure::new(format!("{name}: peak memory"), Unit::Kb);
    for _ in 0..ROUNDS {
        forget(client);
        let started = Instant::now();
        let mut command = flanneld();
        command.args(["-remote", &store]);
        let mut daemon = Daemon::Ours(client.spawn(command));
        wait_for_routes(client, &mut daemon, size + 1);
        time.add_time(OURS, started.elapsed());
        memory.add(OURS, peak_memory(daemon.pid()) as f64 * 1.024);
        daemon.end();
    }
    let mut server_memory = Measure::new(format!("{name}: server's peak memory"), Unit::Kb);
    server_memory.add(OURS, peak_memory(serving.pid()) as f64 * 1.024);
    serving.end();
    vec![time, memory, server_memory]
}

fn flanneld() -> Command {
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-ip-masq",
        "-insecure",
        "-healthz-ip=127.0.0.1",
        "-healthz-port=8081",
    ]);
    command
}

fn join(host: &Host, store: &str, size: usize) {
    thread::scope(|scope| {
        for part in 0..THREADS {
            scope.spawn(move || {
                host.run(|| {
                    (part..size)
                        .step_by(THREADS)
                        .for_each(|n| acquire(store, n))
                });
            });
        }
    });
}

/// A node takes a lease.
fn acquire(store: &str, number: usize) {
    let (high, low) = (number >> 8, number & 0xff);
    let body = format!(
        r#"{{"PublicIP":"198.18.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:{high:02x}:{low:02x}"}}}}"#
    );
    // the server may not listen yet
    let mut stream = loop {
        match TcpStream::connect(store) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(std::time::Duration::from_millis(10)),
        }
    };
    let length = body.len();
    let head = format!("POST /v1/_/leases HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
}
