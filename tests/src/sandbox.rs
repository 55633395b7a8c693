//! Namespaces that separate a test run from the machine.

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{self, CloneFlags},
    unistd::geteuid,
};
use std::{
    env, fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::Command,
};
use tempfile::TempDir;

const MARK: &str = "POD_NETWORK_SANDBOX";
/// A folder that every host of this process sees, and that disappears with the process.
const SHARED: &str = "/srv";

/// Moves the whole process into fresh user, network, mount and pid namespaces: it executes itself
/// again through `unshare`. Call it first in `main`, before any thread exists. Returns inside, with
/// an empty `/run`, `/opt`, `/var/lib` and `/srv`.
pub fn enter() {
    if env::var_os(MARK).is_none() {
        if geteuid().is_root() {
            leave_named_namespaces();
        }
        let error = unshare(&["--user", "--map-root-user", "--net"], MARK).exec();
        panic!("cannot run unshare (Debian package util-linux): {error}");
    }
    private_folders();
    mount_shared_folder();
    loopback_up();
}

/// Unmounts the network namespaces that the machine has mounted somewhere, for this process only:
/// an empty folder over them would hide them, and they would count as in use all the same.
fn leave_named_namespaces() {
    sched::unshare(CloneFlags::CLONE_NEWNS).expect("unshare mounts");
    private_mounts();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, _, _, file, path, ..] = fields.as_slice() else {
            continue;
        };
        if file.starts_with("net:[") {
            umount2(*path, MntFlags::MNT_DETACH)
                .unwrap_or_else(|error| panic!("unmount {path}: {error}"));
        }
    }
}

fn private_mounts() {
    mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .expect("private mounts");
}

/// Mounts the folder that every host of this process sees, after [`private_folders`].
pub fn mount_shared_folder() {
    mount_tmpfs(SHARED);
}

/// A new folder that every host sees under the same path.
pub fn shared_folder(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(SHARED)
        .expect("folder")
}

/// The command that executes this program again with the same arguments, in mount and pid
/// namespaces and in those that `options` of unshare(1) ask for. The variable `mark` is set inside.
pub fn unshare(options: &[&str], mark: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(options)
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("--")
        .arg(env::current_exe().expect("own path"))
        .args(env::args_os().skip(1))
        .env(mark, "1");
    command
}

/// Mounts an empty tmpfs over each folder that CNI programs write to, in the calling thread's mount
/// namespace.
pub fn private_folders() {
    private_mounts();
    for folder in ["/run", "/opt", "/var/lib"] {
        mount_tmpfs(folder);
    }
    // some versions of iptables open the lock file without O_CREAT
    fs::write("/run/xtables.lock", "").expect("xtables.lock");
}

fn mount_tmpfs(folder: &str) {
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .unwrap_or_else(|error| panic!("tmpfs over {folder}: {error}"));
}

/// Mounts a copy of the folder over it, in the calling thread's mount namespace and after
/// [`private_folders`]: changes below it stay there. Large files are links to the originals. What
/// is not readable is left out.
pub fn private_copy(folder: &str) {
    let original = Path::new("/run/originals").join(folder.trim_start_matches('/'));
    fs::create_dir_all(&original).expect("folder");
    let bind = MsFlags::MS_BIND;
    mount::<_, _, str, str>(Some(folder), &original, None, bind | MsFlags::MS_REC, None)
        .unwrap_or_else(|error| panic!("bind mount of {folder}: {error}"));
    mount_tmpfs(folder);
    copy_folder(&original, Path::new(folder));
}

/// Largest file that is copied, bytes.
const COPY_LIMIT: u64 = 64 << 10;

fn copy_folder(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    for entry in entries.flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            fs::create_dir(&to).expect("folder");
            copy_folder(&from, &to);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&from).expect("link");
            symlink(target, &to).expect("link");
        } else if metadata.len() > COPY_LIMIT {
            symlink(&from, &to).expect("link");
        } else if metadata.is_file() && fs::copy(&from, &to).is_err() {
            // not readable without being root
            let _ = fs::remove_file(&to);
        }
    }
}

/// Sets the loopback interface of the calling thread's network namespace up.
pub fn loopback_up() {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip (Debian package iproute2)");
    assert!(status.success(), "ip link set lo up");
}

/// Enables IPv4 and IPv6 forwarding in the calling thread's network namespace.
pub fn enable_forwarding() {
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{key}"), "1").expect(key);
    }
}
