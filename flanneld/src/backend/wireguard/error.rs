//! Why the wireguard backend cannot be built. No text has a key.

use super::settings::MODES;
use linux_net::wireguard::InvalidKey;
use std::{io, path::PathBuf};

/// The error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A key of `Backend` has the wrong type.
    #[error("error decoding wireguard backend config: {0}")]
    Decode(#[source] go_compat::json::Error),
    /// `Mode` has an unknown value. It begins with upstream's text.
    #[error("no valid Mode configured: {0:?} is none of {modes}", modes = MODES.join(", "))]
    Mode(String),
    /// The one tunnel is of a family that the configuration does not enable.
    #[error(
        "Backend.Mode {mode} sends packets by {family}, which the configuration does not enable: set {key} or another Mode"
    )]
    ModeWithoutFamily {
        mode: &'static str,
        family: &'static str,
        key: &'static str,
    },
    /// Peers could not know the port.
    #[error("Backend.{0} is 0: peers need a fixed port")]
    NoPort(&'static str),
    /// Two devices cannot have one port.
    #[error("Backend.ListenPort and ListenPortV6 are both {0}: each device needs its own port")]
    SamePort(u16),
    /// `PSK` is no key.
    #[error("Backend.PSK cannot be used: {0} (`wg genpsk` makes one)")]
    PresharedKey(#[source] InvalidKey),
    /// The kernel keeps the interval in 16 bits.
    #[error("Backend.PersistentKeepaliveInterval {0} is not a number of seconds from 0 to 65535")]
    Keepalive(i64),
    /// A file has something else than a key.
    #[error(
        "{path} cannot be used as WireGuard's private key: {source}; delete the file, and this node takes a new key"
    )]
    InvalidKeyFile { path: PathBuf, source: InvalidKey },
    /// A file with a key cannot be read.
    #[error("failed to read WireGuard's private key from {path}: {source}")]
    ReadKey { path: PathBuf, source: io::Error },
    /// No file takes the key: peers would have to learn another one at each start.
    #[error("failed to write WireGuard's private key to {path}: {source}")]
    WriteKey { path: PathBuf, source: io::Error },
    /// The system has no random numbers for a new key.
    #[error("failed to make a private key for WireGuard: {0}")]
    NewKey(#[source] io::Error),
}
