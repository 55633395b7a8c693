//! Slow, silent and broken ends of a watch.

use super::*;
use serde_json::json;
use tokio::net::TcpListener;

async fn open_watch(address: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream
        .write_all(b"GET /v1/_/leases?watch=true HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream
}

#[tokio::test]
async fn slow_reader_is_dropped_and_delays_no_other() {
    let site = TestServer::new().await;
    let mut slow = open_watch(site.address).await;
    let watcher = Node::join(site.client(), node(250)).await;
    // much more than all the buffers in between
    for round in 0..150 {
        for n in 0..2 {
            let attrs = LeaseAttrs {
                backend_data: Some(json!({"round": round, "text": "x".repeat(14_000)})),
                ..node(n)
            };
            site.store()
                .acquire(attrs, Subnets::default(), None)
                .unwrap();
        }
        sleep(Duration::from_millis(15)).await;
    }
    eventually("the last round", || {
        let leases = watcher.leases.borrow().clone().unwrap_or_default();
        let last = |lease: &&Arc<Lease>| {
            lease
                .attrs
                .backend_data
                .as_ref()
                .is_some_and(|data| data["round"] == 149)
        };
        leases.iter().filter(last).count() == 2
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    // what was underway can be read, then the connection ends
    let mut rest = Vec::new();
    let end = timeout(TIMEOUT, slow.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the slow reader is still served");
    assert!(
        rest.len() < 4 << 20,
        "{} bytes were kept for it",
        rest.len()
    );
    assert!(!watcher.task.is_finished());
}

#[tokio::test]
async fn idle_watch_sends_heartbeats() {
    let site = TestServer::new().await;
    let mut stream = open_watch(site.address).await;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let end = Instant::now() + 5 * wire::HEARTBEAT_INTERVAL;
    while Instant::now() < end && text.matches("{\"cursor\":").count() < 2 {
        let read = timeout(TIMEOUT, stream.read(&mut buffer)).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read.unwrap()]));
    }
    assert!(text.matches("{\"cursor\":").count() >= 2, "{text}");
}

/// A server that answers everything with the same bytes, and then falls silent.
async fn fake_server(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let mut head = [0; 2048];
            drop(stream.read(&mut head).await);
            drop(stream.write_all(answer.as_bytes()).await);
            open.push(stream);
        }
    });
    address
}

fn client_of(address: SocketAddr) -> Arc<Client> {
    let options = ClientOptions {
        remote: address.to_string(),
        tls: None,
        insecure: false,
        renew_margin: MARGIN,
    };
    Arc::new(Client::new(options).unwrap())
}

fn own() -> Lease {
    Lease {
        subnets: "10.3.1.0-24".parse().unwrap(),
        attrs: node(1),
        expiration: None,
    }
}

#[tokio::test]
async fn malformed_lease_hides_no_other() {
    let mut bad = serde_json::to_value(Lease {
        subnets: "10.3.2.0-24".parse().unwrap(),
        attrs: node(2),
        ..own()
    })
    .unwrap();
    let good = serde_json::to_value(Lease {
        subnets: "10.3.3.0-24".parse().unwrap(),
        attrs: node(3),
        ..own()
    })
    .unwrap();
    bad["Attrs"]["PublicIP"] = json!("not an address");
    let lines = format!(
        "{}\n",
        json!({"store": "s", "snapshot": [bad, serde_json::to_value(own()).unwrap(), good], "cursor": "4"})
    );
    let address = fake_server(format!("HTTP/1.1 200 OK\r\n\r\n{lines}")).await;
    let client = client_of(address);
    let (sender, mut leases) = channel::channel(None);
    let own = own();
    tokio::select! {
        ended = client.run(session(&own, sender)) => panic!("{ended:?}"),
        seen = timeout(TIMEOUT, leases.wait_for(Option::is_some)) => {
            assert_eq!(seen.unwrap().unwrap().as_ref().unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn malformed_watch_is_retried_and_changes_nothing() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nhello\n".to_owned(),
        "HTTP/1.1 200 OK\r\n\r\n[1,2]\n".to_owned(),
        "HTTP/1.1 200 OK\r\n\r\n{\"store\":\"s\",\"snapshot\":[],\"cursor\":\"x\"}\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        format!(
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "x".repeat(wire::LINE_LIMIT + 10)
        ),
    ] {
        let client = client_of(fake_server(answer.clone()).await);
        let (sender, leases) = channel::channel(None);
        let own = own();
        let ended = timeout(
            Duration::from_millis(250),
            client.run(session(&own, sender)),
        )
        .await;
        assert!(ended.is_err(), "{answer:.60}: {ended:?}");
        assert!(leases.borrow().is_none(), "{answer:.60}");
    }
}

#[tokio::test]
async fn silent_server_is_reconnected_at_the_cursor() {
    let line =
        json!({"store": "s", "snapshot": [serde_json::to_value(own()).unwrap()], "cursor": "4"});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(listener.local_addr().unwrap());
    let (sender, _leases) = channel::channel(None);
    let own = own();
    let serve = async {
        let mut open = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 2048];
            let read = stream.read(&mut head).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n\r\n{line}\n").as_bytes())
                .await
                .unwrap();
            open.push((stream, String::from_utf8_lossy(&head[..read]).into_owned()));
        }
        open.remove(1).1
    };
    tokio::select! {
        ended = client.run(session(&own, sender)) => panic!("{ended:?}"),
        second = timeout(TIMEOUT, serve) => {
            // the watch resumes at the cursor
            assert!(second.unwrap().contains("store=s&next=4"));
        }
    }
}
