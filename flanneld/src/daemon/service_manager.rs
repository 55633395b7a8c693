//! What systemd is told (sd_notify(3)). A message waits while nobody reads the socket: the daemon
//! does everything else meanwhile, and a later status replaces one that is not sent yet.

use super::status::Status;
use sd_notify::NotifyState;
use std::{convert::Infallible, env, future, time::Duration};
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tracing::debug;

/// How long the end of the daemon waits until it is told.
const STOPPING_TIMEOUT: Duration = Duration::from_millis(100);

/// Tells each status, and when what is ordered after flanneld may start.
pub(super) async fn follow(mut status: watch::Receiver<Status>) -> Infallible {
    if !is_there() {
        return future::pending().await;
    }
    let mut was_set_up = false;
    loop {
        let (text, set_up) = {
            let status = status.borrow_and_update();
            (status.to_string(), status.is_set_up())
        };
        let ready = set_up && !was_set_up;
        notify(move || {
            let status = NotifyState::Status(&text);
            match ready {
                true => sd_notify::notify(&[status, NotifyState::Ready]),
                false => sd_notify::notify(&[status]),
            }
        })
        .await;
        was_set_up = set_up;
        if status.changed().await.is_err() {
            return future::pending().await;
        }
    }
}

/// Tells that the daemon stops.
pub(super) async fn stopping() {
    if is_there() {
        let told = notify(|| sd_notify::notify(&[NotifyState::Stopping]));
        if timeout(STOPPING_TIMEOUT, told).await.is_err() {
            debug!("systemd takes no messages");
        }
    }
}

fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// On a thread of its own, since the socket blocks.
async fn notify(send: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    match spawn_blocking(send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("cannot notify systemd: {error}"),
        // the runtime shuts down
        Err(error) => debug!("systemd is not notified: {error}"),
    }
}
