use super::*;
use crate::subnet::kube::protobuf::{MEDIA_TYPE, fixtures};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// What the server does after a request.
#[derive(Clone)]
enum Step {
    /// Head of an answer with a body of chunks.
    Head(u16, &'static str),
    /// A whole answer.
    Answer(u16, &'static str, Vec<u8>),
    Chunk(Vec<u8>),
    /// The regular end of the body.
    End,
    /// The connection breaks.
    Cut,
    /// Nothing more, and the connection stays.
    Hang,
}

const STREAM: &str = "Content-Type: application/vnd.kubernetes.protobuf;stream=watch\r\n";

/// An API server that answers each request by the next script. A request that has no script is
/// answered by a watch that says nothing.
struct Server {
    url: String,
    paths: Arc<Mutex<Vec<(String, Instant)>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(scripts: Vec<Vec<Step>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let scripts = Arc::new(Mutex::new(VecDeque::from(scripts)));
        let seen = paths.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, seen.clone(), scripts.clone()));
            }
        });
        Server { url, paths, task }
    }

    /// The paths of the requests.
    fn paths(&self) -> Vec<String> {
        let paths = self.paths.lock().unwrap();
        paths.iter().map(|(path, _)| path.clone()).collect()
    }

    /// What the requests are, in short.
    fn requests(&self) -> Vec<String> {
        let short = |path: String| {
            let parameter = |name: &str| {
                let (_, rest) = path.split_once(&format!("{name}="))?;
                Some(rest.split('&').next().unwrap_or_default().to_owned())
            };
            match (parameter("sendInitialEvents"), parameter("limit")) {
                (Some(_), _) => "stream".to_owned(),
                (_, Some(_)) => format!("page {}", parameter("continue").unwrap_or_default()),
                _ => format!("watch {}", parameter("resourceVersion").unwrap_or_default()),
            }
        };
        self.paths().into_iter().map(short).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    paths: Arc<Mutex<Vec<(String, Instant)>>>,
    scripts: Arc<Mutex<VecDeque<Vec<Step>>>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.to_lowercase()
                .contains(&format!("accept: {MEDIA_TYPE}\r\n")),
            "{head}"
        );
        let path = head.split(' ').nth(1).unwrap().to_owned();
        paths.lock().unwrap().push((path, Instant::now()));
        let script = scripts.lock().unwrap().pop_front();
        for step in script.unwrap_or_else(|| vec![Step::Head(200, STREAM), Step::Hang]) {
            let bytes = match step {
                Step::Head(code, headers) => {
                    format!("HTTP/1.1 {code} x\r\n{headers}Transfer-Encoding: chunked\r\n\r\n")
                        .into_bytes()
                }
                Step::Answer(code, headers, body) => [
                    format!(
                        "HTTP/1.1 {code} x\r\n{headers}Content-Length: {}\r\n\r\n",
                        body.len()
                    )
                    .as_bytes(),
                    &body,
                ]
                .concat(),
                Step::Chunk(data) => {
                    [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
                }
                Step::End => b"0\r\n\r\n".to_vec(),
                Step::Cut => return,
                Step::Hang => std::future::pending().await,
            };
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

fn event(kind: &str, object: Vec<u8>) -> Vec<u8> {
    fixtures::frame(&fixtures::event(kind, fixtures::envelope("Node", object)))
}

/// Node n1 to n9 with a public IP of the same number unless another one is given.
fn node(number: u8, ip: u8, version: &str) -> Vec<u8> {
    let ip = format!("192.0.2.{ip}");
    let annotations = [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", "{}"),
        ("public-ip", ip.as_str()),
    ];
    let (name, net) = (format!("n{number}"), format!("10.1.{number}.0/24"));
    fixtures::node_with(&name, 1, version, &annotations, &[&net])
}

fn added(number: u8, version: &str) -> Step {
    Step::Chunk(event("ADDED", node(number, number, version)))
}

fn bookmark(version: &str) -> Step {
    Step::Chunk(event(
        "BOOKMARK",
        fixtures::node_with("", 0, version, &[], &[]),
    ))
}

fn initial_events_end(version: &str) -> Step {
    Step::Chunk(event("BOOKMARK", fixtures::initial_events_end(version)))
}

fn gone_event() -> Step {
    let status = fixtures::status_bytes(410, "Expired", "too old resource version");
    Step::Chunk(fixtures::frame(&fixtures::event("ERROR", status)))
}

fn status(code: u16, headers: &'static str, reason: &str) -> Vec<Step> {
    let body = fixtures::status_bytes(code.into(), reason, "in words");
    vec![Step::Answer(code, headers, body)]
}

fn page(token: &str, nodes: &[u8]) -> Vec<Step> {
    let nodes: Vec<Vec<u8>> = nodes.iter().map(|n| node(*n, *n, "1")).collect();
    let headers = "Content-Type: application/vnd.kubernetes.protobuf\r\n";
    vec![Step::Answer(200, headers, fixtures::list(token, &nodes))]
}

/// A streaming list of nodes, which goes on with `rest`.
fn stream(nodes: &[u8], version: &str, rest: &[Step]) -> Vec<Step> {
    let mut steps = vec![Step::Head(200, STREAM)];
    steps.extend(nodes.iter().map(|number| added(*number, "1")));
    steps.push(initial_events_end(version));
    steps.extend_from_slice(rest);
    steps
}

fn watch_of(steps: &[Step]) -> Vec<Step> {
    [&[Step::Head(200, STREAM)], steps].concat()
}

/// Retries come at once. A server that hangs is noticed late only: on a busy machine the one of the
/// test may be slow.
fn fast() -> Timing {
    with_silence(Duration::from_secs(5))
}

/// Notices a server that hangs, too.
fn impatient() -> Timing {
    with_silence(Duration::from_millis(200))
}

fn with_silence(limit: Duration) -> Timing {
    Timing {
        answer: limit,
        listing_silence: limit,
        watch_end: limit,
        watch_silence: limit,
        listing: Duration::from_secs(20),
        watch: Duration::from_secs(300),
        good: Duration::from_millis(100),
        pause: Duration::from_millis(10),
        backoff: crate::retry::ExponentialBackoff {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(100),
        },
        ..Timing::default()
    }
}

/// A watch of a server, while it runs.
struct Running {
    server: Server,
    leases: watch::Receiver<Option<Leases>>,
    own: watch::Receiver<OwnNode>,
    waiting: watch::Receiver<Option<Arc<str>>>,
    task: JoinHandle<Infallible>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(scripts: Vec<Vec<Step>>, timing: Timing) -> Running {
    let server = Server::start(scripts).await;
    let mut config = kube::Config::new(server.url.parse().unwrap());
    config.default_retry = false;
    let published = Published {
        own: watch::Sender::new(OwnNode::Unknown),
        leases: watch::Sender::new(None),
        waiting: Waiting::default(),
    };
    let (leases, own) = (published.leases.subscribe(), published.own.subscribe());
    let waiting = published.waiting.subscribe();
    let families = Families {
        ipv4: true,
        ipv6: false,
    };
    let keys = Keys::new("flannel.alpha.coreos.com").unwrap();
    let watched = Watched {
        keys,
        families,
        own_name: "n1".to_owned(),
        published,
    };
    let client = kube::Client::try_from(config).unwrap();
    let watch = NodeWatch::new(client, watched, timing);
    Running {
        server,
        leases,
        own,
        waiting,
        task: tokio::spawn(watch.run()),
    }
}

/// The last number of each public IP.
fn ips(leases: &Leases) -> Vec<u8> {
    let mut ips: Vec<u8> = leases
        .iter()
        .map(|lease| lease.attrs.public_ip.unwrap().octets()[3])
        .collect();
    ips.sort_unstable();
    ips
}

impl Running {
    /// Waits until these nodes are published. Every snapshot on the way has at least `kept`.
    async fn until(&mut self, expected: &[u8], kept: &[u8]) {
        let reached = timeout(Duration::from_secs(10), async {
            loop {
                if let Some(leases) = self.leases.borrow_and_update().clone() {
                    let ips = ips(&leases);
                    assert!(kept.iter().all(|ip| ips.contains(ip)), "{ips:?}");
                    if ips == expected {
                        return;
                    }
                }
                self.leases.changed().await.unwrap();
            }
        });
        let reached = reached.await;
        reached
            .unwrap_or_else(|_| panic!("{:?}: {:?}", self.server.requests(), self.leases.borrow()));
    }

    /// Waits until the status says what is waited for.
    async fn until_waiting(&mut self, part: &str) {
        let text = timeout(Duration::from_secs(10), async {
            let text = self
                .waiting
                .wait_for(|text| text.as_ref().is_some_and(|text| text.contains(part)));
            text.await.unwrap().clone()
        });
        text.await
            .unwrap_or_else(|_| panic!("{part}: {:?}", self.server.requests()));
    }

    async fn until_not_waiting(&mut self) {
        let clear = self.waiting.wait_for(Option::is_none);
        timeout(Duration::from_secs(10), clear)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn streaming_list_goes_on_as_the_watch() {
    let rest = [added(4, "5"), Step::Hang];
    let mut running = run(vec![stream(&[1, 2, 3], "4", &rest)], fast()).await;
    running.until(&[1, 2, 3, 4], &[1, 2, 3]).await;
    assert!(matches!(&*running.own.borrow(), OwnNode::Present(node) if node.name == "n1"));
    assert_eq!(running.server.requests(), ["stream"]);
}

#[tokio::test]
async fn first_snapshot_is_whole() {
    let mut listing = stream(&[1, 2], "4", &[Step::Hang]);
    let end = listing.split_off(2);
    // the first one breaks off after one node
    listing.push(Step::Cut);
    let mut whole = vec![Step::Head(200, STREAM), added(1, "1")];
    whole.extend(end);
    let mut running = run(vec![listing, whole], fast()).await;
    running.until(&[1, 2], &[1, 2]).await;
    assert_eq!(running.server.requests(), ["stream", "stream"]);
}

#[tokio::test]
async fn old_server_is_listed_by_pages() {
    let refused = || status(422, STREAM, "Invalid");
    let scripts = vec![
        refused(),
        page("a", &[1, 2]),
        page("b+/", &[3]),
        page("", &[4]),
        watch_of(&[added(5, "101"), gone_event(), Step::End]),
        page("", &[1, 2, 3, 4, 5]),
        watch_of(&[added(6, "102"), Step::Hang]),
    ];
    let mut running = run(scripts, fast()).await;
    running.until(&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4]).await;
    assert_eq!(
        running.server.requests(),
        [
            "stream",
            "page ",
            "page a",
            "page b%2B%2F",
            "watch 100",
            "page ",
            "watch 100"
        ]
    );
}

#[tokio::test]
async fn page_that_expired_starts_the_listing_again() {
    let scripts = vec![
        status(400, STREAM, "BadRequest"),
        page("a", &[1, 9]),
        status(410, STREAM, "Expired"),
        page("a", &[1]),
        page("", &[2]),
    ];
    let mut running = run(scripts, fast()).await;
    running.until(&[1, 2], &[1, 2]).await;
    assert_eq!(
        running.server.requests()[..5],
        ["stream", "page ", "page a", "page ", "page a"]
    );
}

#[tokio::test]
async fn watch_resumes_where_it_broke() {
    let half = event("ADDED", node(4, 4, "9"));
    let half = Step::Chunk(half[..half.len() / 2].to_vec());
    let scripts = vec![
        stream(&[1], "4", &[added(2, "5"), Step::Cut]),
        watch_of(&[bookmark("6"), Step::Cut]),
        watch_of(&[half.clone(), Step::End]),
        watch_of(&[half, Step::Cut]),
        watch_of(&[added(3, "7"), Step::End]),
        watch_of(&[added(4, "8"), Step::Hang]),
    ];
    let mut running = run(scripts, fast()).await;
    running.until(&[1, 2, 3, 4], &[1]).await;
    assert_eq!(
        running.server.requests(),
        [
            "stream", "watch 5", "watch 6", "watch 6", "watch 6", "watch 7"
        ]
    );
}

#[tokio::test]
async fn old_position_leads_to_a_comparison_with_a_new_listing() {
    let changed = Step::Chunk(event("ADDED", node(2, 22, "8")));
    let second = [
        Step::Head(200, STREAM),
        added(1, "1"),
        changed,
        added(4, "8"),
    ];
    for gone in [
        status(410, STREAM, "Expired"),
        watch_of(&[gone_event(), Step::End]),
    ] {
        let scripts = vec![
            stream(&[1, 2, 3], "4", &[Step::Cut]),
            gone,
            // this listing breaks off: nothing may go
            watch_of(&[added(1, "1"), Step::Cut]),
            [&second[..], &[initial_events_end("9"), Step::Hang]].concat(),
        ];
        let mut running = run(scripts, fast()).await;
        running.until(&[1, 2, 3], &[]).await;
        running.until(&[1, 4, 22], &[1]).await;
        assert_eq!(
            running.server.requests(),
            ["stream", "watch 4", "stream", "stream"]
        );
    }
}

#[tokio::test]
async fn faults_leave_the_leases_and_say_what_is_wrong() {
    let html = "Content-Type: text/html\r\n";
    let page_of_a_proxy = || Step::Answer(502, html, b"<html>".to_vec());
    let faults: [(Vec<Step>, &str); 9] = [
        (status(429, "Retry-After: 0\r\n", "TooManyRequests"), "429"),
        (status(500, "", "InternalError"), "500"),
        (status(503, "", "ServiceUnavailable"), "503"),
        (
            vec![page_of_a_proxy()],
            "502 x: the answer is \"text/html\"",
        ),
        (
            vec![Step::Answer(200, html, b"<html>".to_vec())],
            "the answer is \"text/html\"",
        ),
        (vec![Step::Answer(406, "", Vec::new())], MEDIA_TYPE),
        (status(401, "", "Unauthorized"), "credentials"),
        (status(403, "", "Forbidden"), "watch on nodes"),
        (vec![Step::Hang], "no answer within"),
    ];
    for (fault, text) in faults {
        let scripts = vec![
            stream(&[1, 2], "4", &[Step::Cut]),
            fault.clone(),
            fault,
            watch_of(&[added(3, "5"), Step::Hang]),
        ];
        let mut running = run(scripts, fast()).await;
        let text = text.replace(" x", " Bad Gateway");
        running.until_waiting(&text).await;
        running.until(&[1, 2, 3], &[1, 2]).await;
        running.until_not_waiting().await;
        assert_eq!(
            running.server.requests(),
            ["stream", "watch 4", "watch 4", "watch 4"],
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_no_event_leaves_the_leases() {
    let pod = fixtures::frame(&fixtures::event(
        "ADDED",
        fixtures::envelope("Pod", Vec::new()),
    ));
    for (bytes, text) in [
        (b"\x7f\0\0\0".to_vec(), "2130706432 bytes"),
        (fixtures::frame(b"{\"type\":\"ADDED\"}"), "invalid protobuf"),
        (pod, "Pod"),
    ] {
        let broken = watch_of(&[Step::Chunk(bytes), Step::Hang]);
        let scripts = vec![
            stream(&[1, 2], "4", &[Step::Cut]),
            broken.clone(),
            broken,
            watch_of(&[added(3, "5"), Step::Hang]),
        ];
        let mut running = run(scripts, fast()).await;
        running.until_waiting(text).await;
        running.until(&[1, 2, 3], &[1, 2]).await;
    }
}

#[tokio::test]
async fn watch_that_falls_silent_is_opened_again() {
    let drip: Vec<Step> = event("ADDED", node(9, 9, "6"))[..60]
        .iter()
        .map(|byte| Step::Chunk(vec![*byte]))
        .collect();
    for rest in [vec![], drip] {
        let rest = [&[bookmark("5")], &rest[..], &[Step::Hang]].concat();
        let scripts = vec![
            stream(&[1], "4", &rest),
            watch_of(&[added(2, "6"), Step::Hang]),
        ];
        let mut running = run(scripts, impatient()).await;
        running.until(&[1, 2], &[1]).await;
        assert_eq!(running.server.requests(), ["stream", "watch 5"]);
    }
}

#[tokio::test]
async fn listing_that_falls_silent_is_tried_by_pages() {
    let scripts = vec![
        watch_of(&[added(1, "1"), Step::Hang]),
        page("", &[1, 2]),
        watch_of(&[gone_event(), Step::End]),
        stream(&[1, 2, 3], "9", &[Step::Hang]),
    ];
    let mut running = run(scripts, impatient()).await;
    running.until(&[1, 2, 3], &[1, 2]).await;
    assert_eq!(
        running.server.requests(),
        ["stream", "page ", "watch 100", "stream"]
    );
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let scripts = vec![
        status(429, "Retry-After: 1\r\n", "TooManyRequests"),
        stream(&[1], "4", &[Step::Hang]),
    ];
    let mut running = run(scripts, fast()).await;
    running.until(&[1], &[]).await;
    let times: Vec<Instant> = running
        .server
        .paths
        .lock()
        .unwrap()
        .iter()
        .map(|(_, at)| *at)
        .collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
}

#[tokio::test]
async fn burst_is_a_few_snapshots() {
    let mut rest: Vec<Step> = (0..200u8)
        .map(|n| Step::Chunk(event("MODIFIED", node(2, n, "5"))))
        .collect();
    rest.push(Step::Hang);
    let timing = Timing {
        pause: Duration::from_millis(50),
        ..fast()
    };
    let mut running = run(vec![stream(&[1, 2], "4", &rest)], timing).await;
    let mut snapshots = 0;
    let last = timeout(Duration::from_secs(10), async {
        loop {
            running.leases.changed().await.unwrap();
            snapshots += 1;
            let leases = running.leases.borrow_and_update().clone().unwrap();
            if ips(&leases).contains(&199) {
                return;
            }
        }
    });
    last.await.unwrap();
    assert!(snapshots <= 20, "{snapshots} snapshots");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever a server sends, and wherever it breaks off, nothing is withdrawn.
    #[test]
    fn no_bytes_of_a_watch_withdraw_a_lease(bytes: Vec<u8>, at: prop::sample::Index, valid: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bytes = [&b"x"[..], &bytes].concat();
            if valid {
                bytes = event("MODIFIED", node(2, 2, "5"));
                let length = 1 + at.index(bytes.len() - 1);
                bytes.truncate(length);
            }
            let scripts = vec![
                stream(&[1, 2], "4", &[Step::Chunk(vec![0]), Step::Cut]),
                watch_of(&[Step::Chunk(bytes), Step::End]),
                watch_of(&[added(3, "6"), Step::Hang]),
            ];
            run(scripts, fast()).await.until(&[1, 2, 3], &[1, 2]).await;
        });
    }
}
