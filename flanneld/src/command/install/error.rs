//! Errors of the install commands.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A file of ours or the given source cannot be read.
    #[error("{path}: cannot read it: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file or folder of the node cannot be written.
    #[error("{path}: cannot write it: {source}{advice}", path = path.display(), advice = advice(source))]
    Write { path: PathBuf, source: io::Error },
    /// Another install command holds the folder's lock.
    #[error("{path}: another install command has been writing to it for {timeout:?}; try again", path = path.display())]
    Locked { path: PathBuf, timeout: Duration },
    /// The destination is a folder, a device or a socket.
    #[error("{path}: it is there and is not a file; remove it, or name a file", path = path.display())]
    NotAFile { path: PathBuf },
    /// The destination has no file name.
    #[error("{path}: it names no file", path = path.display())]
    NoName { path: PathBuf },
    /// The executable of the plugins is not one that this machine executes.
    #[error("{path}: {reason}; nothing is installed", path = path.display())]
    Executable {
        path: PathBuf,
        reason: super::elf::Refusal,
    },
    /// -plugins or -replace names something else.
    #[error("-{flag}: {name:?} is not a plugin of flanneld: {known}, or all", known = known.join(", "))]
    UnknownPlugin {
        flag: &'static str,
        name: String,
        known: Vec<&'static str>,
    },
    /// The plugins do not fit into the file system.
    #[error(
        "{folder}: {needed} bytes are needed and {free} are free; free some space; nothing is installed",
        folder = folder.display()
    )]
    Space {
        folder: PathBuf,
        needed: u64,
        free: u64,
    },
    /// A configuration file is not one that a runtime can read.
    #[error(
        "{source_file}: not a JSON object: {source}; {destination} stays as it is",
        source_file = source_file.display(), destination = destination.display()
    )]
    Json {
        source_file: PathBuf,
        destination: PathBuf,
        source: serde_json::Error,
    },
    /// A source is larger than any configuration file.
    #[error("{path}: larger than {limit} bytes: not a configuration file", path = path.display())]
    TooLarge { path: PathBuf, limit: u64 },
}

/// What to do about errors of file systems and permissions.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => "; mount the node's folder for reading and writing",
        ErrorKind::PermissionDenied => {
            "; run this as root; in a pod, look at the owner of the node's folder and at SELinux"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space",
        _ => "",
    }
}
