//! The proxy of the tests: what passes, and what a client sees of each fault.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};
use tests::{
    ApiServer, Ending, Fault, FaultProxy, Host,
    kubernetes::{Node, User, without_kubernetes},
    process::eventually,
    scenario,
};

const ADDRESS: &str = "127.0.0.1:8080";
const LIST: &str = "/api/v1/nodes?limit=500";
/// From any version on, so that each node that exists is an event.
const WATCH: &str = "/api/v1/nodes?watch=true&resourceVersion=0";
const SHORT: Duration = Duration::from_millis(300);

/// A client in a namespace of its own, with the proxy at [`ADDRESS`] and no TLS on the way to it.
fn client_of(server: &ApiServer) -> (Host, FaultProxy) {
    let host = Host::new("client");
    let proxy = FaultProxy::kubernetes_plain(server, &host, ADDRESS);
    (host, proxy)
}

/// Sends a request; the connection.
fn send(host: &Host, path: &str) -> TcpStream {
    let mut stream = host.run(|| TcpStream::connect(ADDRESS)).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    let token = User::Flannel.token();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
        .expect("send");
    stream
}

/// The whole answer, as far as it came.
fn get(host: &Host, path: &str) -> String {
    let mut answer = Vec::new();
    // the connection may be cut
    let _ = send(host, path).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[scenario(unless = without_kubernetes)]
fn requests_pass_and_are_listed() {
    let server = ApiServer::pooled();
    let (host, proxy) = client_of(&server);
    server.create_node(&Node::new("passing"));
    assert!(get(&host, LIST).contains("\"passing\""));
    let requests = proxy.take_requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert!(request.is_node_list());
    assert_eq!(
        (request.method.as_str(), request.query.as_str()),
        ("GET", "limit=500")
    );
    assert_eq!(
        (request.accept.as_str(), request.status()),
        ("application/json", 200)
    );
    assert!(request.received() > 500);
    assert_eq!(proxy.connections(), 1);
}

#[scenario(unless = without_kubernetes)]
fn the_proxy_answers_in_the_servers_place() {
    let server = ApiServer::pooled();
    let (host, proxy) = client_of(&server);
    for (fault, expected) in [
        (Fault::gone(), ["HTTP/1.1 410", "\"Expired\""]),
        (
            Fault::too_many_requests(7),
            ["HTTP/1.1 429", "retry-after: 7"],
        ),
        (
            Fault::internal_error(),
            ["HTTP/1.1 500", "\"InternalError\""],
        ),
        (
            Fault::forbidden("nodes is forbidden"),
            ["HTTP/1.1 403", "nodes is forbidden"],
        ),
        (Fault::html(200), ["HTTP/1.1 200", "<html>"]),
        (Fault::html(502), ["HTTP/1.1 502", "<html>"]),
        (Fault::expired_event(), ["HTTP/1.1 200", "\"ERROR\""]),
    ] {
        proxy.inject_times(1, |request| request.is_node_list(), fault);
        let answer = get(&host, LIST);
        for text in expected {
            assert!(answer.contains(text), "{text} in {answer}");
        }
        assert!(
            get(&host, LIST).contains("NodeList"),
            "the fault is for one request"
        );
    }
    let number = proxy.inject(|request| request.is_watch(), Fault::internal_error());
    assert!(get(&host, WATCH).contains(" 500 "));
    assert!(
        get(&host, LIST).contains("NodeList"),
        "the fault is for watches"
    );
    proxy.remove(number);
}

#[scenario(unless = without_kubernetes)]
fn answers_are_stalled_dropped_cut_and_slow() {
    let server = ApiServer::pooled();
    let (host, proxy) = client_of(&server);
    server.create_node(&Node::new("x").pod_cidrs(&["10.0.0.0/24"]));
    let list = |fault: Fault| {
        proxy.clear();
        proxy.inject(|request| request.is_node_list(), fault);
        get(&host, LIST)
    };
    assert_eq!(list(Fault::Drop), "");
    let cut = list(Fault::CutAfter(100));
    assert!(
        cut.contains("NodeList") && !cut.ends_with("0\r\n\r\n"),
        "{cut}"
    );
    let ended = list(Fault::EndAfter(100));
    assert!(
        ended.contains("NodeList") && ended.ends_with("0\r\n\r\n"),
        "{ended}"
    );
    let started = Instant::now();
    assert!(
        list(Fault::Drip {
            bytes_per_second: 4000
        })
        .ends_with("0\r\n\r\n")
    );
    assert!(started.elapsed() > SHORT, "{:?}", started.elapsed());
    proxy.clear();
    proxy.inject(|request| request.is_node_list(), Fault::Stall);
    let mut stream = send(&host, LIST);
    stream.set_read_timeout(Some(SHORT)).expect("timeout");
    assert!(
        stream.read(&mut [0]).is_err(),
        "nothing comes, and the connection stays"
    );
    proxy.drop_connections();
    assert_eq!(
        stream.read(&mut [0]).unwrap_or(0),
        0,
        "the connection ended"
    );
}

#[scenario(unless = without_kubernetes)]
fn a_watch_ends_within_an_event() {
    let server = ApiServer::pooled();
    let (host, proxy) = client_of(&server);
    for (number, ending) in [Ending::Cut, Ending::End].into_iter().enumerate() {
        let mut stream = BufReader::new(send(&host, WATCH));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).expect("the head");
        }
        proxy.end_within_next_event(ending);
        let name = format!("node{number}");
        server.create_node(&Node::new(&name));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.contains("\"ADDED\"") && !rest.contains("}\n"),
            "{rest}"
        );
        assert_eq!(rest.ends_with("0\r\n\r\n"), ending == Ending::End, "{rest}");
        server.delete_node(&name);
    }
}

#[scenario(unless = without_kubernetes)]
fn connections_are_refused_and_stalled() {
    let server = ApiServer::pooled();
    let (host, proxy) = client_of(&server);
    let connect = || host.run(|| TcpStream::connect(ADDRESS));
    proxy.refuse();
    assert!(connect().is_err());
    proxy.accept();
    assert!(get(&host, LIST).contains("NodeList"));
    proxy.stall(true);
    let mut stream = send(&host, LIST);
    stream.set_read_timeout(Some(SHORT)).expect("timeout");
    assert!(stream.read(&mut [0]).is_err(), "nothing comes");
    proxy.stall(false);
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("NodeList"), "{answer}");
}

#[scenario(unless = without_kubernetes)]
fn bytes_pass_as_they_are() {
    let server = ApiServer::pooled();
    let host = Host::new("client");
    let proxy = FaultProxy::tcp(server.host(), "127.0.0.1:2379", &host, "127.0.0.1:2379");
    let health = || host.try_sh("ETCDCTL_API=3 etcdctl --command-timeout=500ms endpoint health");
    assert!(health().status.success());
    proxy.stall(true);
    assert!(!health().status.success());
    proxy.stall(false);
    eventually("it is healthy again", Duration::from_secs(5), || {
        health().status.success().then_some(())
    });
    proxy.refuse();
    proxy.drop_connections();
    assert!(!health().status.success());
}
