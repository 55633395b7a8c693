//! etcd: one member or several, each in the namespace of a host, with and without TLS.

use crate::{
    Host, Process, peers,
    pki::{Authority, Identity},
    process::eventually,
    sandbox,
    shell::checked,
};
use nix::sys::signal::Signal;
use std::{
    io::{self, Read, Seek, Write},
    net::{IpAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Answers /health, without TLS.
const METRICS_PORT: u16 = 2381;
/// Operations that etcd takes in one transaction.
const TRANSACTION: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of one request for /health.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason to skip where etcd or etcdctl is missing.
pub fn without_etcd() -> Option<String> {
    peers::without_program("etcd", "etcd-server")
        .or_else(|| peers::without_program("etcdctl", "etcd-client"))
}

/// A cluster of etcd members, numbered from 0. Its data disappears with it.
pub struct Etcd {
    members: Vec<Member>,
    tls: Option<Tls>,
    user: Option<String>,
    // after the members, so that they end before their data goes
    folder: TempDir,
}

/// The files of a client of an [`Etcd`] with TLS.
pub struct Tls {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The client's certificate and key.
    pub client: Identity,
}

struct Member {
    host: Host,
    program: PathBuf,
    ip: String,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Member {
    fn is_healthy(&self) -> bool {
        let ask = || -> io::Result<String> {
            let ip: IpAddr = self.ip.parse().expect("an address");
            let mut stream = TcpStream::connect((ip, METRICS_PORT))?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.host.run(ask);
        answer.is_ok_and(|answer| answer.contains(r#""health":"true""#))
    }
}

impl Etcd {
    /// One member without TLS, at port 2379 of an address of the host.
    pub fn new(host: &Host, ip: &str) -> Etcd {
        Etcd::cluster(&[(host, ip)])
    }

    /// One member that demands certificates of its clients.
    pub fn with_tls(host: &Host, ip: &str) -> Etcd {
        Etcd::start_all(&[(host, ip)], true, &peers::program("etcd"))
    }

    /// A member at each place, without TLS.
    pub fn cluster(places: &[(&Host, &str)]) -> Etcd {
        Etcd::start_all(places, false, &peers::program("etcd"))
    }

    /// The etcd behind an API server, on the host's loopback interface.
    pub fn of_kubernetes(host: &Host) -> Etcd {
        let program = peers::etcd_of_kubernetes();
        Etcd::start_all(&[(host, "127.0.0.1")], false, &program)
    }

    fn start_all(places: &[(&Host, &str)], with_tls: bool, program: &Path) -> Etcd {
        let folder = sandbox::shared_folder("etcd");
        let mut tls = None;
        let mut server = None;
        if with_tls {
            let authority = Authority::new(folder.path());
            let addresses: Vec<&str> = places.iter().map(|(_, ip)| *ip).collect();
            server = Some(authority.issue("server", &[&addresses[..], &["127.0.0.1"]].concat()));
            let (ca, client) = (authority.ca(), authority.issue("client", &[]));
            tls = Some(Tls { ca, client });
        }
        let scheme = if with_tls { "https" } else { "http" };
        let peers: Vec<String> = places.iter().enumerate().map(peer_url).collect();
        let members = places.iter().enumerate().map(|(number, (host, ip))| {
            let client_url = format!("{scheme}://{}:{CLIENT_PORT}", bracketed(ip));
            let peer_url = format!("http://{}:{PEER_PORT}", bracketed(ip));
            let data = folder.path().join(format!("data{number}"));
            let mut arguments = vec![
                format!("--name=member{number}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={client_url}"),
                format!("--advertise-client-urls={client_url}"),
                format!(
                    "--listen-metrics-urls=http://{}:{METRICS_PORT}",
                    bracketed(ip)
                ),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster={}", peers.join(",")),
                "--logger=zap".to_owned(),
            ];
            if places.len() == 1 {
                // there is nobody to elect, so the member need not wait for others
                arguments
                    .extend(["--heartbeat-interval=10", "--election-timeout=50"].map(String::from));
            }
            if let (Some(server), Some(tls)) = (&server, &tls) {
                arguments.push("--client-cert-auth".to_owned());
                arguments.push(format!("--trusted-ca-file={}", tls.ca.display()));
                arguments.push(format!("--cert-file={}", server.cert.display()));
                arguments.push(format!("--key-file={}", server.key.display()));
            }
            Member {
                host: host.handle(),
                program: program.to_owned(),
                ip: (*ip).to_owned(),
                arguments,
                process: None,
            }
        });
        let mut etcd = Etcd {
            members: members.collect(),
            tls,
            user: None,
            folder,
        };
        for number in 0..places.len() {
            etcd.spawn(number);
        }
        etcd.wait_healthy();
        etcd
    }

    /// Starts a member again with other arguments.
    #[track_caller]
    pub fn restart_with(&mut self, number: usize, change: impl FnOnce(&mut Vec<String>)) {
        self.stop(number);
        change(&mut self.members[number].arguments);
        self.start(number);
    }

    /// Starts a member on the data that it had, and does not wait for it.
    pub fn spawn(&mut self, number: usize) {
        let member = &mut self.members[number];
        let mut command = Command::new(&member.program);
        command.args(&member.arguments);
        member.process = Some(member.host.spawn(command));
    }

    /// Starts a member on the data that it had, and waits until it is healthy.
    #[track_caller]
    pub fn start(&mut self, number: usize) {
        self.spawn(number);
        self.wait_healthy();
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(&mut self, number: usize) {
        self.end(number, Signal::SIGTERM);
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self, number: usize) {
        self.end(number, Signal::SIGKILL);
    }

    fn end(&mut self, number: usize, signal: Signal) {
        let mut process = self.members[number].process.take().expect("it runs");
        process.signal(signal);
        process.wait(TIMEOUT);
    }

    /// Stops the process of a member without ending it (SIGSTOP), or lets it continue (SIGCONT).
    pub fn signal(&self, number: usize, signal: Signal) {
        let process = self.members[number].process.as_ref().expect("it runs");
        process.signal(signal);
    }

    /// Waits until each running member answers with a leader at hand.
    #[track_caller]
    pub fn wait_healthy(&mut self) {
        for member in &mut self.members {
            eventually("etcd is healthy", TIMEOUT, || match &mut member.process {
                None => Some(()),
                Some(process) => {
                    assert!(process.is_running(), "etcd ended:\n{}", process.output());
                    member.is_healthy().then_some(())
                }
            });
        }
    }

    /// The number of the member that leads.
    #[track_caller]
    pub fn leader(&self) -> usize {
        let status = self.ctl(&["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let leads = |entry: &serde_json::Value| {
            entry["Status"]["leader"] == entry["Status"]["header"]["member_id"]
        };
        let entries = status.as_array().expect("a list");
        let leader = entries.iter().find(|entry| leads(entry)).expect("a leader");
        let endpoint = leader["Endpoint"].as_str().expect("an endpoint");
        (0..self.members.len())
            .find(|&number| self.endpoint(number) == endpoint)
            .expect("one of ours")
    }

    /// The client URL of a member.
    pub fn endpoint(&self, number: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let ip = bracketed(&self.members[number].ip);
        format!("{scheme}://{ip}:{CLIENT_PORT}")
    }

    /// The client URLs of all members, separated by commas.
    pub fn endpoints(&self) -> String {
        self.urls(|_| true)
    }

    fn urls(&self, wanted: impl Fn(&Member) -> bool) -> String {
        let numbers = 0..self.members.len();
        let urls: Vec<String> = numbers
            .filter(|&number| wanted(&self.members[number]))
            .map(|number| self.endpoint(number))
            .collect();
        urls.join(",")
    }

    /// The client's files, where the cluster has TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Demands a password from now on: makes the user root, which [`Etcd::ctl`] uses then, and a
    /// user who may read and write every key.
    #[track_caller]
    pub fn enable_auth(&mut self, user: &str, password: &str) {
        self.ctl(&["user", "add", "root:root"]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.ctl(&["role", "add", "writer"]);
        self.ctl(&[
            "role",
            "grant-permission",
            "writer",
            "readwrite",
            "--prefix",
            "",
        ]);
        self.ctl(&["user", "add", &format!("{user}:{password}")]);
        self.ctl(&["user", "grant-role", user, "writer"]);
        self.ctl(&["auth", "enable"]);
        self.user = Some("root:root".to_owned());
        // requests with a user take etcd long on a busy machine at first
        eventually("etcd knows its users", TIMEOUT, || {
            let health = self.try_ctl(&["endpoint", "health"]);
            health.status.success().then_some(())
        });
    }

    /// `etcdctl ARGUMENTS` with the running members as endpoints; its stdout.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let shown = format!("etcdctl {}", arguments.join(" "));
        checked("etcd", &shown, &self.try_ctl(arguments))
    }

    /// The same, where it may fail.
    pub fn try_ctl(&self, arguments: &[&str]) -> Output {
        self.run_ctl(arguments, Stdio::null())
    }

    fn run_ctl(&self, arguments: &[&str], stdin: Stdio) -> Output {
        let mut command = Command::new(peers::program("etcdctl"));
        let running = self.urls(|member| member.process.is_some());
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &running, "--command-timeout=10s"]);
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(&tls.ca);
            command.arg("--cert").arg(&tls.client.cert);
            command.arg("--key").arg(&tls.client.key);
        }
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        command.args(arguments).stdin(stdin);
        let host = &self.members[0].host;
        host.run(|| command.output().expect("etcdctl"))
    }

    /// Sets many keys, all of them on one etcd lease of 24 hours.
    #[track_caller]
    pub fn put_leased(&self, pairs: &[(String, String)]) {
        let granted = self.ctl(&["lease", "grant", "86400"]);
        let lease = granted.split_whitespace().nth(1).expect("lease ID granted");
        for pairs in pairs.chunks(TRANSACTION) {
            let puts = pairs.iter().map(|(key, value)| {
                let value = value.replace('"', "\\\"");
                format!("put --lease={lease} {key} \"{value}\"\n")
            });
            let mut file = tempfile::tempfile_in(self.folder.path()).expect("a file");
            write!(file, "\n{}\n\n", puts.collect::<String>()).expect("a transaction");
            file.rewind().expect("seek");
            let output = self.run_ctl(&["txn"], file.into());
            checked("etcd", "etcdctl txn", &output);
        }
    }

    /// Sets a key.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", "--", key, value]);
    }

    /// The value of a key.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<String> {
        let answer = self.ctl(&["get", "--", key]);
        let value = answer.strip_prefix(key)?.strip_prefix('\n')?;
        Some(value.strip_suffix('\n')?.to_owned())
    }

    /// The keys that start with a prefix.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.ctl(&["get", "--prefix", "--keys-only", "--", prefix]);
        let keys = keys.lines().filter(|line| !line.is_empty());
        keys.map(str::to_owned).collect()
    }

    /// Deletes a key.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.ctl(&["del", "--", key]);
    }

    /// The revision of the store.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        let answer = self.ctl(&["get", "-w", "json", "--", "revision"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["header"]["revision"].as_u64().expect("a revision")
    }

    /// Forgets the history up to now: a watch from an earlier revision is refused.
    #[track_caller]
    pub fn compact(&self) {
        self.ctl(&["compaction", "--physical", &self.revision().to_string()]);
    }
}

fn peer_url((number, (_, ip)): (usize, &(&Host, &str))) -> String {
    format!("member{number}=http://{}:{PEER_PORT}", bracketed(ip))
}

/// An address as URLs have it.
fn bracketed(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}
