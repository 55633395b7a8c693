//! The file of the embedded lease store under a real daemon: killed, on a full disk, damaged, opened twice.

use nix::sys::signal::Signal;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tests::{Case, Host, Process, Underlay, binaries::program, case, process::eventually};

const SERVER: &str = "127.0.0.1:8888";
const STORE: &str = "/var/lib/flannel/leases.redb";
const LIMIT: Duration = Duration::from_secs(15);

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("lease_store/kill_nine", kill_nine),
        case("lease_store/full_disk", full_disk),
        case("lease_store/unusable_file", unusable_file),
        case("lease_store/opened_twice", opened_twice),
    ]
}

fn underlay() -> Underlay {
    let net = Underlay::new(1);
    net.hosts[0].sh(r#"echo '{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}' > /run/net-conf.json"#);
    net
}

fn start(host: &Host) -> Process {
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-listen",
        SERVER,
        "-net-config-path=/run/net-conf.json",
        "-healthz-ip=127.0.0.1",
    ]);
    host.spawn(command)
}

/// An answer's status and body; None if the server went away before it was whole.
fn ask(method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(SERVER).ok()?;
    let request = format!(
        "{method} /v1/_/{path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

fn acquire(n: usize) -> Option<(u16, serde_json::Value)> {
    let body = format!(r#"{{"PublicIP":"198.18.{}.{}"}}"#, n / 250, n % 250);
    ask("POST", "leases", &body)
}

/// Public IP -> subnet.
fn leases(host: &Host) -> BTreeMap<String, String> {
    let (status, answer) = host.run(|| ask("GET", "leases", "")).expect("an answer");
    assert_eq!(status, 200);
    let leases = answer["snapshot"].as_array().expect("leases").iter();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    leases
        .map(|lease| (text(&lease["Attrs"]["PublicIP"]), text(&lease["Subnet"])))
        .collect()
}

fn wait_for_server(host: &Host, daemon: &mut Process) {
    eventually("the server answers", LIMIT, || {
        assert!(daemon.is_running(), "flanneld ended:\n{}", daemon.output());
        host.run(|| ask("GET", "config", "")).map(drop)
    });
}

/// What a node was told is there after kill -9 at any moment, and no subnet is given twice.
fn kill_nine() {
    let net = underlay();
    let host = &net.hosts[0];
    let promised = Arc::new(Mutex::new(BTreeMap::new()));
    for round in 0..6u64 {
        let mut daemon = start(host);
        wait_for_server(host, &mut daemon);
        for (ip, subnet) in promised.lock().expect("map").iter() {
            assert_eq!(leases(host).get(ip), Some(subnet), "{ip} in round {round}");
        }
        host.run(|| {
            thread::scope(|scope| {
                for client in 0..4 {
                    let promised = promised.clone();
                    scope.spawn(move || {
                        for n in 0.. {
                            let n = (round as usize * 1000) + n * 4 + client;
                            let Some((200, lease)) = acquire(n) else {
                                return;
                            };
                            let text =
                                |value: &serde_json::Value| value.as_str().map(str::to_owned);
                            let (ip, subnet) =
                                (text(&lease["Attrs"]["PublicIP"]), text(&lease["Subnet"]));
                            promised
                                .lock()
                                .expect("map")
                                .insert(ip.expect("PublicIP"), subnet.expect("Subnet"));
                        }
                    });
                }
                thread::sleep(Duration::from_millis(20 + round * 17));
                daemon.signal(Signal::SIGKILL);
            });
        });
        daemon.wait(LIMIT);
    }
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    let found = leases(host);
    let promised = promised.lock().expect("map");
    assert!(
        promised.len() > 5,
        "only {} leases were given",
        promised.len()
    );
    for (ip, subnet) in promised.iter() {
        assert_eq!(found.get(ip), Some(subnet), "{ip}");
    }
    let distinct: std::collections::BTreeSet<_> = found.values().collect();
    assert_eq!(
        distinct.len(),
        found.len(),
        "a subnet was given twice: {found:?}"
    );
}

/// A change that cannot be written is refused and never seen; with space again the daemon goes on by itself.
fn full_disk() {
    let net = underlay();
    let host = &net.hosts[0];
    host.sh("mkdir -p /var/lib/flannel && mount -t tmpfs -o size=8m tmpfs /var/lib/flannel");
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    eventually("its own lease", LIMIT, || {
        (leases(host).len() == 1).then_some(())
    });
    host.sh("dd if=/dev/zero of=/var/lib/flannel/ballast bs=64k 2>/dev/null; true");
    let big = "x".repeat(12_000);
    let fill = |n: usize| {
        let body = format!(
            r#"{{"PublicIP":"198.18.{}.{}","BackendData":{{"text":"{big}"}}}}"#,
            n / 250,
            n % 250
        );
        host.run(|| ask("POST", "leases", &body))
            .expect("an answer")
    };
    let mut given = 1;
    let (status, error) = loop {
        let (status, answer) = fill(given);
        if status != 200 {
            break (
                status,
                answer["error"].as_str().unwrap_or_default().to_owned(),
            );
        }
        given += 1;
        assert!(given < 3000, "the disk never fills");
    };
    assert!(
        status == 500 && error.contains(STORE) && error.contains("space"),
        "{status} {error}"
    );
    assert!(daemon.is_running());
    assert_eq!(leases(host).len(), given);
    host.sh("rm /var/lib/flannel/ballast");
    assert_eq!(fill(given).0, 200, "there is space again");
    let before = leases(host);
    assert_eq!(before.len(), given + 1);
    daemon.signal(Signal::SIGKILL);
    daemon.wait(LIMIT);
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    assert_eq!(leases(host), before);
}

/// The daemon ends with the file's name and what to do, and does not touch the file.
fn unusable_file() {
    let net = underlay();
    let host = &net.hosts[0];
    host.sh("mkdir -p /var/lib/flannel");
    for content in ["printf 'hello'", "head -c 300000 /dev/urandom"] {
        host.sh(&format!("{content} > {STORE} && cp {STORE} /run/copy"));
        let mut daemon = start(host);
        let status = daemon.wait(LIMIT);
        let output = daemon.output();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(
            output.contains(STORE) && output.contains("move it away"),
            "{output}"
        );
        host.sh(&format!("cmp {STORE} /run/copy"));
    }
}

/// A second daemon with the same file is told so; the first goes on.
fn opened_twice() {
    let net = underlay();
    let host = &net.hosts[0];
    let mut first = start(host);
    wait_for_server(host, &mut first);
    let mut second = start(host);
    assert_eq!(second.wait(LIMIT).code(), Some(1));
    let output = second.output();
    assert!(output.contains("in use by another process"), "{output}");
    assert!(first.is_running());
}
