//! The namespaces that keep a test run away from the machine.

use nix::mount::{MsFlags, mount};
use std::{env, os::unix::process::CommandExt, process::Command};

const MARK: &str = "POD_NETWORK_SANDBOX";

/// Moves the whole process into fresh user, network, mount and pid namespaces by executing itself again through
/// `unshare`. Call it first in `main`, before any thread exists. Returns inside, with empty `/run`, `/opt`, `/var/lib`.
pub fn enter() {
    if env::var_os(MARK).is_none() {
        let exe = env::current_exe().expect("own path");
        let error = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg("--")
            .arg(exe)
            .args(env::args_os().skip(1))
            .env(MARK, "1")
            .exec();
        panic!("cannot run unshare (Debian package util-linux): {error}");
    }
    private_folders();
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip (Debian package iproute2)");
    assert!(status.success(), "ip link set lo up");
}

/// Mounts an empty tmpfs over each folder that CNI programs write to, in the calling thread's mount namespace.
pub fn private_folders() {
    mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .expect("private mounts");
    for folder in ["/run", "/opt", "/var/lib"] {
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .unwrap_or_else(|error| panic!("tmpfs over {folder}: {error}"));
    }
    // iptables' lock is opened, not created, by some versions
    std::fs::write("/run/xtables.lock", "").expect("xtables.lock");
}
