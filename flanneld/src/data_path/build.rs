//! Which executable a process runs, and how it is started.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

/// The process's own executable, also when its file is deleted or replaced.
const OWN: &str = "/proc/self/exe";

/// Names an executable file: equal for processes of one file, different after it was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Build {
    version: String,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Build {
    /// This process's.
    pub(super) fn own() -> io::Result<Build> {
        let file = fs::metadata(OWN)?;
        Ok(Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// A process that moves packets, with this socket. It gets no descriptor and no variable of the one
/// that starts it, and no secret in its arguments.
pub(super) fn command(socket: &Path) -> Command {
    let mut command = Command::new(OWN);
    command
        .arg0("flanneld")
        .args(["data-path", "-socket"])
        .arg(socket)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
