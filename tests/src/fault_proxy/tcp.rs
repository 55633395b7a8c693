//! One connection whose bytes pass as they are.

use super::{Upstream, state::State};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Passes bytes both ways until one side ends.
pub(super) async fn serve(mut client: TcpStream, upstream: &Upstream, state: &State) {
    let Ok(mut server) = TcpStream::connect(upstream.address).await else {
        return;
    };
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        // an error is the end of a connection
        _ = pass(from_client, to_server, state) => (),
        _ = pass(from_server, to_client, state) => (),
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        state.moving().await;
        to.write_all(&buffer[..length]).await?;
    }
}
