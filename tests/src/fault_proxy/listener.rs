//! The proxy's thread: accepts connections and obeys the test's commands.

use super::{Protocol, Upstream, http, state::State, tcp};
use std::{
    future::pending,
    net,
    sync::{Arc, mpsc},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
};

/// A command of the test; the sender tells it that the command is done.
pub(super) enum Command {
    Accept(net::TcpListener, mpsc::Sender<()>),
    Refuse(mpsc::Sender<()>),
    DropConnections(mpsc::Sender<()>),
}

/// Runs until the test drops the sender of commands.
pub(super) fn run(
    mut commands: UnboundedReceiver<Command>,
    upstream: &Arc<Upstream>,
    state: &Arc<State>,
    protocol: &Protocol,
) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("runtime");
    runtime.block_on(async {
        let mut listener = None;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Accept(bound, done)) => {
                        listener = Some(TcpListener::from_std(bound).expect("listener"));
                        done.send(()).ok();
                    }
                    Some(Command::Refuse(done)) => {
                        listener = None;
                        done.send(()).ok();
                    }
                    Some(Command::DropConnections(done)) => {
                        connections.shutdown().await;
                        done.send(()).ok();
                    }
                },
                stream = accepted(listener.as_ref()) => {
                    state.count_connection();
                    let (upstream, state) = (upstream.clone(), state.clone());
                    connections.spawn(serve(stream, upstream, state, protocol.clone()));
                }
                Some(_) = connections.join_next() => (),
            }
        }
    });
}

async fn accepted(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        None => pending().await,
        Some(listener) => loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
        },
    }
}

async fn serve(stream: TcpStream, upstream: Arc<Upstream>, state: Arc<State>, protocol: Protocol) {
    stream.set_nodelay(true).ok();
    state.moving().await;
    match protocol {
        Protocol::Tcp => tcp::serve(stream, &upstream, &state).await,
        Protocol::Http(None) => http::serve(stream, upstream, state).await,
        Protocol::Http(Some(acceptor)) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                http::serve(stream, upstream, state).await;
            }
        }
    }
}
