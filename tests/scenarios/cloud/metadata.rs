//! A metadata service of an instance, on the loopback interface of a host.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};
use tests::Host;

const ADDRESS: &str = "127.0.0.1:8001";
pub(super) const URL: &str = "http://127.0.0.1:8001";

/// What the service demands of a request.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Demand {
    Nothing,
    /// A header.
    Header(&'static str),
    /// A token that the service gives for a PUT (AWS's version 2).
    Token,
}

/// A host with the service.
pub(super) struct Metadata {
    pub(super) host: Host,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metadata {
    /// A service with these paths and values.
    pub(super) fn new(demand: Demand, values: Vec<(String, String)>) -> Metadata {
        Metadata::on(Host::new("instance"), demand, values)
    }

    /// The same on a host that exists.
    pub(super) fn on(host: Host, demand: Demand, values: Vec<(String, String)>) -> Metadata {
        let listener = host.run(|| TcpListener::bind(ADDRESS).expect("listen"));
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream.expect("connection"), demand, &values);
            }
        });
        Metadata {
            host,
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // the thread looks after the next connection
        if self.host.run(|| TcpStream::connect(ADDRESS)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, demand: Demand, values: &[(String, String)]) {
    let mut lines = BufReader::new(stream.try_clone().expect("stream")).lines();
    let request = lines.next().and_then(Result::ok).unwrap_or_default();
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_lowercase())
        .collect();
    let has = |header: &str| headers.iter().any(|line| line == header);
    let mut words = request.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let value = values.iter().find(|(known, _)| known == path);
    let (status, body) = match (method, demand) {
        ("PUT", Demand::Token) if path == "/latest/api/token" => {
            match has("x-aws-ec2-metadata-token-ttl-seconds: 60") {
                true => ("200 OK", "token-1"),
                false => ("400 Bad Request", ""),
            }
        }
        ("GET", Demand::Token) if !has("x-aws-ec2-metadata-token: token-1") => {
            ("401 Unauthorized", "")
        }
        ("GET", Demand::Header(header)) if !has(header) => ("403 Forbidden", ""),
        ("GET", _) => value.map_or(("404 Not Found", ""), |(_, value)| {
            ("200 OK", value.as_str())
        }),
        _ => ("405 Method Not Allowed", ""),
    };
    let length = body.len();
    let sent = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // curl that is killed is a failure of its own
    drop(sent);
}
