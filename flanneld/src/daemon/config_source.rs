//! The file of the network configuration on the machine that has the lease store: checked, and
//! published to every node when it changes or at SIGHUP.

use crate::{
    backend,
    model::network_config::{self, NetworkConfig},
    subnet::embedded::Store,
};
use std::{
    convert::Infallible,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::sleep,
};
use tracing::{error, info};

/// How often the file is compared.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest file that is read, in bytes: a ConfigMap's limit.
const LONGEST_FILE: u64 = 1 << 20;

/// Why a network configuration cannot be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error(
        "cannot read the network configuration {}: {source}; name another with -net-config-path",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    /// A key is refused.
    #[error("{}: {source}", path.display())]
    Keys {
        path: PathBuf,
        source: network_config::Error,
    },
    /// A key of `Backend` is refused.
    #[error("{}: {source}", path.display())]
    Backend {
        path: PathBuf,
        source: backend::Error,
    },
    /// Upstream's words, its grammar included.
    #[error(
        "{}: none defined stack: set EnableIPv4, EnableIPv6 or both",
        .0.display()
    )]
    NoFamily(PathBuf),
}

/// Reads the file and checks every key of it.
pub(super) fn read(path: &Path) -> Result<NetworkConfig, Error> {
    check(path, &read_text(path)?)
}

/// The same of a file or a pipe.
pub(crate) fn read_once(path: &Path) -> Result<NetworkConfig, Error> {
    check(path, &read_text_of(path, true)?)
}

fn read_text(path: &Path) -> Result<String, Error> {
    read_text_of(path, false)
}

fn read_text_of(path: &Path, may_wait: bool) -> Result<String, Error> {
    let read = || {
        let mut text = String::new();
        // to open a FIFO is to wait for its writer
        if !may_wait && !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = fs::File::open(path)?;
        let length = file.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
        if length as u64 > LONGEST_FILE {
            return Err(io::Error::other(format!(
                "longer than {LONGEST_FILE} bytes"
            )));
        }
        Ok(text)
    };
    read().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn check(path: &Path, text: &str) -> Result<NetworkConfig, Error> {
    let refused = |source| Error::Keys {
        path: path.to_owned(),
        source,
    };
    let mut config = NetworkConfig::parse(text).map_err(refused)?;
    if !config.enable_ipv4 && !config.enable_ipv6 {
        return Err(Error::NoFamily(path.to_owned()));
    }
    config.check_subnets().map_err(refused)?;
    backend::check(&config).map_err(|source| Error::Backend {
        path: path.to_owned(),
        source,
    })?;
    Ok(config)
}

/// Follows the file as long as it lives.
pub(super) struct Follower(JoinHandle<Infallible>);

impl Follower {
    /// Starts with the configuration that `store` has. Call inside of a tokio runtime.
    pub(super) fn start(path: PathBuf, store: Arc<Store>) -> io::Result<Follower> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Follower(tokio::spawn(follow(path, store, hangup))))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(path: PathBuf, store: Arc<Store>, mut hangup: Signal) -> Infallible {
    // what was handled last, and what the file was at the last look: an editor writes in steps
    let mut handled = Some(store.config().raw);
    let mut seen = handled.clone();
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = sleep(CHECK_INTERVAL) => false,
        };
        match read_text(&path) {
            Ok(text) => {
                let settled = seen.as_ref() == Some(&text);
                if asked || settled && handled.as_ref() != Some(&text) {
                    publish(&path, &text, &store);
                    handled = Some(text.clone());
                }
                seen = Some(text);
            }
            Err(error) if asked => error!("{error}; the nodes keep what they have"),
            // it may be about to be replaced
            Err(_) => seen = None,
        }
    }
}

/// Gives a good configuration to the nodes, this one included.
fn publish(path: &Path, text: &str, store: &Store) {
    match check(path, text) {
        Ok(config) if store.config().changes(&config).is_empty() => {
            info!("{}: nothing changed", path.display());
        }
        Ok(config) => {
            info!("{} changed: every node gets it", path.display());
            store.set_config(config);
        }
        Err(error) => error!("{error}; the nodes keep what they have"),
    }
}
