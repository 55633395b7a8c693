//! The watch has a thread of its own. In a large cluster hundreds of events arrive each second,
//! and each would wake a thread that waits for whatever happens next. This one sleeps between two
//! reads, and finds everything that arrived meanwhile at once; the daemon's thread sleeps on.

use super::Watched;
use crate::subnet::kube::{Client, ClientError};
use std::{io, thread, time::Duration};
use tokio::{
    runtime::Builder,
    sync::oneshot::{self, Receiver, Sender},
    time::sleep,
};

/// Until credentials that cannot be read are read again.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(5);

/// A watch that ends when this is dropped.
pub(crate) struct WatchThread {
    _stop: Sender<()>,
}

impl WatchThread {
    /// `client` makes the thread's own client: its connections belong to the thread.
    pub(crate) fn start(
        client: impl Fn() -> Result<Client, ClientError> + Send + 'static,
        watched: Watched,
    ) -> io::Result<WatchThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("node-watch".to_owned())
            .spawn(move || runtime.block_on(run(client, watched, stopped)))?;
        Ok(WatchThread { _stop: stop })
    }
}

async fn run(
    client: impl Fn() -> Result<Client, ClientError> + Send + 'static,
    watched: Watched,
    stopped: Receiver<()>,
) {
    // unlike the outermost future, a task is woken by its own thread without a system call
    let watch = tokio::spawn(async move {
        let client = connect(client, &watched).await;
        super::run(client.inner(), watched).await
    });
    tokio::select! {
        _ = watch => {}
        _ = stopped => {}
    }
}

async fn connect(client: impl Fn() -> Result<Client, ClientError>, watched: &Watched) -> Client {
    let waiting = &watched.published.waiting;
    loop {
        match client() {
            Ok(client) => {
                waiting.clear();
                return client;
            }
            Err(error) => waiting.report(format!("for the API server: {error}")),
        }
        sleep(CREDENTIALS_INTERVAL).await;
    }
}
