//! Traffic between two places, measured.

use super::pair::Place;
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tests::process::eventually;

/// Of one sample of throughput, in seconds.
const SECONDS: &str = "1";
const TIMEOUT: Duration = Duration::from_secs(30);
/// Requests of one sample of latency, after those that are not counted.
const REQUESTS: usize = 500;
const UNCOUNTED: usize = 50;
const PORT: u16 = 5202;

/// What iperf3 transferred.
pub(super) struct Stream {
    pub(super) mbit_per_second: f64,
    /// Processor time of the whole machine, since the kernel's part belongs to no process.
    pub(super) seconds_per_gb: f64,
}

/// TCP streams from one place to the other.
pub(super) fn stream(from: &Place<'_>, to: &Place<'_>, streams: usize) -> Stream {
    let mut server = Command::new("iperf3");
    server.args(["-s", "-1", "--forceflush", "-B", &to.ip]);
    let mut server = to.spawn(server);
    eventually("iperf3 listens", TIMEOUT, || {
        server.output().contains("listening").then_some(())
    });
    let mut client = Command::new("iperf3");
    let streams = streams.to_string();
    client.args(["-c", &to.ip, "-t", SECONDS, "-P", &streams, "-J"]);
    let before = busy_time();
    let mut client = from.spawn(client);
    let status = client.wait(TIMEOUT);
    let used = busy_time() - before;
    assert!(status.success(), "iperf3: {}", client.output());
    server.wait(TIMEOUT);
    let report: serde_json::Value = serde_json::from_str(&client.output()).expect("JSON");
    let received = &report["end"]["sum_received"];
    let number = |key: &str| received[key].as_f64().expect("a number");
    Stream {
        mbit_per_second: number("bits_per_second") / 1e6,
        seconds_per_gb: used.as_secs_f64() / (number("bytes") / 1e9),
    }
}

/// The time that the machine's processors were busy so far, in user and kernel mode and with
/// interrupts (the first line of /proc/stat, in ticks of 10 ms).
fn busy_time() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().next().expect("a line");
    let fields = line.split_whitespace().skip(1);
    let fields: Vec<u64> = fields.map(|ticks| ticks.parse().expect("ticks")).collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    let busy = [0, 1, 2, 5, 6].map(|field: usize| fields[field]);
    Duration::from_millis(10 * busy.iter().sum::<u64>())
}

/// The times from a request of one byte to its answer.
pub(super) fn round_trips(from: &Place<'_>, to: &Place<'_>) -> Vec<Duration> {
    let address = (to.address(), PORT);
    let listener = to.run(|| TcpListener::bind(address).expect("listener"));
    thread::scope(|scope| {
        scope.spawn(move || to.on_processors(|| answer(&listener)));
        let mut stream = from.run(|| TcpStream::connect(address).expect("connect"));
        stream.set_nodelay(true).expect("nodelay");
        let mut byte = [0];
        let mut exchange = || {
            let start = Instant::now();
            stream.write_all(&byte).expect("request");
            stream.read_exact(&mut byte).expect("answer");
            start.elapsed()
        };
        from.on_processors(|| {
            for _ in 0..UNCOUNTED {
                exchange();
            }
            (0..REQUESTS).map(|_| exchange()).collect()
        })
    })
}

/// Sends each byte of one connection back.
fn answer(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        stream.write_all(&byte).expect("answer");
    }
}
