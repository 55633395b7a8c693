//! The Unix socket of the process: a file that only root can open, in the folder of subnet.env.

use crate::best_effort::best_effort;
use nix::{
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{Mode, umask},
    },
    unistd::geteuid,
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// sun_path without its final zero, in bytes.
const MAX_PATH: usize = 107;

/// The names of the sockets begin with it.
pub(super) const PREFIX: &str = "data-path-";
/// And end with it.
pub(super) const SUFFIX: &str = ".sock";

/// The socket of the process that has the device.
pub(crate) fn path(subnet_file: &Path, device: &str) -> PathBuf {
    let name = format!("{PREFIX}{device}{SUFFIX}");
    subnet_file.with_file_name(name)
}

/// Connects to the process. The other side belongs to root or to this process's user.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = with_short_path(path, |path| UnixStream::connect(path))?;
    check_peer(&stream)?;
    Ok(stream)
}

/// Listens at the path. Another socket there is replaced at once: at no moment is there none.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let temporary = path.with_extension("new");
    best_effort(fs::remove_file(&temporary), "it is left over, or absent");
    // no other thread of the process makes files
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = with_short_path(&temporary, |path| UnixListener::bind(path));
    umask(before);
    let listener = listener?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

/// Fails if the other side belongs to a user who could not run flanneld.
pub(super) fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let uid = getsockopt(stream, PeerCredentials)?.uid();
    if uid == 0 || uid == geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("user {uid} is on the other side"),
    ))
}

/// A path that is too long for a socket's address is used by way of its folder's descriptor.
fn with_short_path<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if path.as_os_str().len() > MAX_PATH => (folder, name),
        _ => return f(path),
    };
    let folder = File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    f(&short.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn socket_is_replaced_and_private_under_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        for folder in [folder.path(), &deep] {
            let path = path(&folder.join("subnet.env"), "flannel0");
            let first = listen(&path).unwrap();
            connect(&path).unwrap();
            let second = listen(&path).unwrap();
            drop(first);
            connect(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(second);
            assert!(connect(&path).is_err());
        }
    }
}
