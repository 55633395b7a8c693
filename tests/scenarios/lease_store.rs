//! The file of the embedded lease store under a daemon that is killed, on a full disk, damaged, and
//! opened twice.

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
use tests::{Host, Process, Underlay, binaries::program, process::eventually, scenario};

const SERVER: &str = "127.0.0.1:8888";
const STORE: &str = "/var/lib/flannel/leases.redb";
const TIMEOUT: Duration = Duration::from_secs(15);

fn underlay() -> Underlay {
    let net = Underlay::new(1);
    net.hosts[0].sh(r#"echo '{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}' > /run/net-conf.json"#);
    net
}

fn start(host: &Host) -> Process {
    start_with(host, &[])
}

fn start_with(host: &Host, more: &[&str]) -> Process {
    let mut command = Command::new(program("flanneld"));
    command.args(more);
    command.args([
        "-listen",
        SERVER,
        "-net-config-path=/run/net-conf.json",
        "-healthz-ip=127.0.0.1",
    ]);
    host.spawn(command)
}

/// Status and body of an answer; None if the server ended before it was complete.
fn request(method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
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
    request("POST", "leases", &body)
}

/// Public IP -> subnet.
fn leases(host: &Host) -> BTreeMap<String, String> {
    let (status, answer) = host
        .run(|| request("GET", "leases", ""))
        .expect("an answer");
    assert_eq!(status, 200);
    let leases = answer["snapshot"].as_array().expect("leases").iter();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    leases
        .map(|lease| (text(&lease["Attrs"]["PublicIP"]), text(&lease["Subnet"])))
        .collect()
}

fn wait_for_server(host: &Host, daemon: &mut Process) {
    eventually("the server answers", TIMEOUT, || {
        assert!(daemon.is_running(), "flanneld ended:\n{}", daemon.output());
        host.run(|| request("GET", "config", "")).map(drop)
    });
}

#[scenario]
fn granted_leases_survive_sigkill() {
    let net = underlay();
    let host = &net.hosts[0];
    let granted = Arc::new(Mutex::new(BTreeMap::new()));
    for round in 0..6u64 {
        let mut daemon = start(host);
        wait_for_server(host, &mut daemon);
        for (ip, subnet) in granted.lock().expect("map").iter() {
            assert_eq!(leases(host).get(ip), Some(subnet), "{ip} in round {round}");
        }
        host.run(|| {
            thread::scope(|scope| {
                for client in 0..4 {
                    let granted = granted.clone();
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
                            granted
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
        daemon.wait(TIMEOUT);
    }
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    let found = leases(host);
    let granted = granted.lock().expect("map");
    assert!(
        granted.len() > 5,
        "only {} leases were granted",
        granted.len()
    );
    for (ip, subnet) in granted.iter() {
        assert_eq!(found.get(ip), Some(subnet), "{ip}");
    }
    let distinct: std::collections::BTreeSet<_> = found.values().collect();
    assert_eq!(
        distinct.len(),
        found.len(),
        "a subnet was leased twice: {found:?}"
    );
}

#[scenario]
fn full_disk_refuses_changes_and_recovers() {
    let net = underlay();
    let host = &net.hosts[0];
    host.sh("mkdir -p /var/lib/flannel && mount -t tmpfs -o size=8m tmpfs /var/lib/flannel");
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    eventually("its own lease", TIMEOUT, || {
        (leases(host).len() == 1).then_some(())
    });
    host.sh("dd if=/dev/zero of=/var/lib/flannel/filler bs=64k 2>/dev/null; true");
    let big = "x".repeat(12_000);
    let fill = |n: usize| {
        let body = format!(
            r#"{{"PublicIP":"198.18.{}.{}","BackendData":{{"text":"{big}"}}}}"#,
            n / 250,
            n % 250
        );
        host.run(|| request("POST", "leases", &body))
            .expect("an answer")
    };
    let mut granted = 1;
    let (status, error) = loop {
        let (status, answer) = fill(granted);
        if status != 200 {
            break (
                status,
                answer["error"].as_str().unwrap_or_default().to_owned(),
            );
        }
        granted += 1;
        assert!(granted < 3000, "the disk never fills");
    };
    assert!(
        status == 507 && error.contains(STORE) && error.contains("is full"),
        "{status} {error}"
    );
    assert!(daemon.is_running());
    assert_eq!(leases(host).len(), granted);
    host.sh("rm /var/lib/flannel/filler");
    assert_eq!(fill(granted).0, 200, "there is space again");
    let before = leases(host);
    assert_eq!(before.len(), granted + 1);
    daemon.signal(Signal::SIGKILL);
    daemon.wait(TIMEOUT);
    let mut daemon = start(host);
    wait_for_server(host, &mut daemon);
    assert_eq!(leases(host), before);
}

#[scenario]
fn unusable_file_ends_the_daemon_and_stays_unchanged() {
    let net = underlay();
    let host = &net.hosts[0];
    host.sh("mkdir -p /var/lib/flannel");
    for content in ["printf 'hello'", "head -c 300000 /dev/urandom"] {
        host.sh(&format!("{content} > {STORE} && cp {STORE} /run/copy"));
        let mut daemon = start(host);
        let status = daemon.wait(TIMEOUT);
        let output = daemon.output();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(
            output.contains(STORE) && output.contains("move it away"),
            "{output}"
        );
        host.sh(&format!("cmp {STORE} /run/copy"));
    }
}

#[scenario]
fn second_daemon_on_one_file_ends() {
    let net = underlay();
    let host = &net.hosts[0];
    let mut first = start(host);
    wait_for_server(host, &mut first);
    // other files of its own, but not the leases'
    let own = [
        "-subnet-file=/run/2/subnet.env",
        "-state-file=/run/2/node.json",
    ];
    let mut second = start_with(host, &own);
    assert_eq!(second.wait(TIMEOUT).code(), Some(1));
    let output = second.output();
    assert!(output.contains("in use by another process"), "{output}");
    assert!(first.is_running());
}
