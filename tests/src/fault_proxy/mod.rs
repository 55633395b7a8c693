//! A proxy in front of a server that a test drives while it runs: it answers in the server's place,
//! delays, stalls and cuts what passes, refuses connections, and lists the requests.
//!
//! [`FaultProxy::kubernetes`] understands HTTP/1.1; [`FaultProxy::tcp`] passes bytes, for etcd.

mod fault;
mod http;
mod listener;
mod state;
mod tcp;
pub(crate) mod tls;

pub use fault::{Ending, Fault, Seen};

use crate::{ApiServer, Host, kubernetes::PORT, pki::Identity};
use listener::Command;
use state::State;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};
use tokio::{net::TcpStream, sync::mpsc as commands};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A running proxy. Dropping it ends its connections.
pub struct FaultProxy {
    state: Arc<State>,
    host: Host,
    address: SocketAddr,
    scheme: &'static str,
    commands: commands::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// The server behind the proxy.
pub(crate) struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// What the proxy speaks with its clients.
#[derive(Clone)]
enum Protocol {
    Tcp,
    Http(Option<TlsAcceptor>),
}

impl Upstream {
    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let tls = self.tls.as_ref().expect("HTTP goes over TLS");
        let name = "localhost".try_into().expect("a name");
        tls.connect(name, stream).await
    }
}

impl FaultProxy {
    /// In front of an API server, with TLS and the API server's certificate. It listens at
    /// `address` ("172.31.0.254:6443") in the host's namespace, for example that of an underlay's
    /// switch.
    pub fn kubernetes(server: &ApiServer, host: &Host, address: &str) -> FaultProxy {
        FaultProxy::kubernetes_as(server, host, address, server.serving())
    }

    /// The same with another certificate.
    pub fn kubernetes_as(
        server: &ApiServer,
        host: &Host,
        address: &str,
        identity: &Identity,
    ) -> FaultProxy {
        let protocol = Protocol::Http(Some(tls::acceptor(identity)));
        FaultProxy::start(server.host(), api_server(server), host, address, protocol)
    }

    /// The same without TLS between the client and the proxy.
    pub fn kubernetes_plain(server: &ApiServer, host: &Host, address: &str) -> FaultProxy {
        let protocol = Protocol::Http(None);
        FaultProxy::start(server.host(), api_server(server), host, address, protocol)
    }

    /// In front of any server: it passes bytes from `address` in the namespace of `host` to
    /// `upstream` in the namespace of `upstream_host`.
    pub fn tcp(upstream_host: &Host, upstream: &str, host: &Host, address: &str) -> FaultProxy {
        let upstream = Upstream {
            address: upstream.parse().expect("address"),
            tls: None,
        };
        FaultProxy::start(upstream_host, upstream, host, address, Protocol::Tcp)
    }

    fn start(
        upstream_host: &Host,
        upstream: Upstream,
        host: &Host,
        address: &str,
        protocol: Protocol,
    ) -> FaultProxy {
        let state = Arc::new(State::new());
        let (sender, receiver) = commands::unbounded_channel();
        let (upstream_host, shared) = (upstream_host.handle(), state.clone());
        let scheme = match &protocol {
            Protocol::Tcp => "tcp",
            Protocol::Http(None) => "http",
            Protocol::Http(Some(_)) => "https",
        };
        let thread = thread::spawn(move || {
            // connections to the server belong to its namespace, the listener brings its own
            upstream_host.enter();
            listener::run(receiver, &Arc::new(upstream), &shared, &protocol);
        });
        let proxy = FaultProxy {
            state,
            host: host.handle(),
            address: address.parse().expect("address"),
            scheme,
            commands: sender,
            thread: Some(thread),
        };
        proxy.accept();
        proxy
    }

    /// The URL of the proxy.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The fault meets every request that `applies` accepts, until [`FaultProxy::remove`] with the
    /// number that this returns, or [`FaultProxy::clear`]. Of several faults the first meets it.
    pub fn inject(&self, applies: impl Fn(&Seen) -> bool + Send + 'static, fault: Fault) -> usize {
        self.state.add_rule(Box::new(applies), None, fault)
    }

    /// The same for the next `times` requests of this kind.
    pub fn inject_times(
        &self,
        times: usize,
        applies: impl Fn(&Seen) -> bool + Send + 'static,
        fault: Fault,
    ) -> usize {
        self.state.add_rule(Box::new(applies), Some(times), fault)
    }

    /// Removes a fault.
    pub fn remove(&self, number: usize) {
        self.state.remove_rule(number);
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.state.clear_rules();
    }

    /// The next event of a stream that runs arrives half, and the stream ends.
    pub fn end_within_next_event(&self, ending: Ending) {
        self.state.set_ending(ending);
    }

    /// Connections are accepted and stay open, and nothing moves on them; with `false` it goes on.
    pub fn stall(&self, stalled: bool) {
        self.state.stalled.send_replace(stalled);
    }

    /// Ends every connection; new ones are accepted.
    pub fn drop_connections(&self) {
        self.command(Command::DropConnections);
    }

    /// Refuses new connections; those that exist stay.
    pub fn refuse(&self) {
        self.command(Command::Refuse);
    }

    /// Accepts connections again, after [`FaultProxy::refuse`].
    pub fn accept(&self) {
        let listener = self.host.run(|| {
            let listener = TcpListener::bind(self.address)?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(listener)
        });
        let listener = listener.unwrap_or_else(|error| panic!("{}: {error}", self.address));
        self.command(|done| Command::Accept(listener, done));
    }

    /// The requests since the start, or since [`FaultProxy::take_requests`].
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen()
    }

    /// The same, and forgets them.
    pub fn take_requests(&self) -> Vec<Seen> {
        self.state.take_seen()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// Returns when the proxy has done it.
    fn command(&self, command: impl FnOnce(mpsc::Sender<()>) -> Command) {
        let (done, wait) = mpsc::channel();
        self.commands.send(command(done)).expect("the proxy runs");
        wait.recv().expect("the proxy runs");
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // its thread ends with the channel
        self.commands = commands::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn api_server(server: &ApiServer) -> Upstream {
    Upstream {
        address: SocketAddr::from(([127, 0, 0, 1], PORT)),
        tls: Some(tls::connector(&server.ca())),
    }
}
