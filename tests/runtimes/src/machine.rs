//! The machine that a runtime runs on: its own network, mount and pid namespaces, but the real root
//! user, whom runc needs.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, exit},
    thread,
    time::Duration,
};
use tests::{peers::GO_PLUGINS, sandbox};

const MARK: &str = "POD_NETWORK_MACHINE";
/// The folder of the plugins.
pub const BIN: &str = "/opt/cni/bin";
/// The folder of the conf list, in place of /etc/cni/net.d.
pub const NET_D: &str = "/opt/cni/net.d";

/// The reason to skip where the runtimes cannot run.
pub fn missing() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("a container runtime needs real root".into());
    }
    let needed = [
        ("/usr/bin/containerd", "containerd"),
        ("/usr/sbin/runc", "runc"),
        ("/usr/bin/podman", "podman"),
        ("/bin/busybox", "busybox-static"),
    ];
    let lacking = needed.iter().find(|(file, _)| !Path::new(file).exists());
    lacking.map(|(file, package)| format!("{file} is missing: apt-get install {package}"))
}

/// Moves the process into the machine's namespaces. Call it first in `main`; returns inside. The
/// outer process waits, removes the control groups that the runtimes created, and exits with the
/// same code.
pub fn enter() {
    if env::var_os(MARK).is_none() {
        let before = control_groups();
        let status = sandbox::unshare(&["--net"], MARK)
            .status()
            .unwrap_or_else(|error| {
                panic!("cannot run unshare (Debian package util-linux): {error}")
            });
        remove_control_groups(&before);
        exit(status.code().unwrap_or(1));
    }
    sandbox::private_folders();
    sandbox::private_copy("/etc");
    sandbox::enable_forwarding();
    sandbox::loopback_up();
    fs::create_dir_all("/run/flannel").expect("/run/flannel");
}

/// Removes the groups that are not in `before`. The group of a process that was just killed stays
/// busy for a moment; a group that another program uses stays.
fn remove_control_groups(before: &[PathBuf]) {
    for _ in 0..40 {
        let left: Vec<_> = control_groups()
            .into_iter()
            .filter(|group| !before.contains(group))
            .collect();
        let remove = |group: &PathBuf| {
            fs::remove_dir(group)
                .err()
                .map(|error| (group.clone(), error))
        };
        let failed: Vec<_> = left.iter().rev().filter_map(remove).collect();
        match failed.first() {
            None => return,
            Some((group, error)) => eprintln!("{}: {error}; trying again", group.display()),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The groups that containerd and podman create, in each hierarchy, parents first.
fn control_groups() -> Vec<PathBuf> {
    let output = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-type",
            "d",
            "(",
            "-path",
            "*/k8s.io*",
            "-o",
            "-path",
            "*/libpod_parent*",
            ")",
        ])
        .output()
        .expect("find");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect()
}

/// Installs plugins: a link for each name, replaced by rename as `make install` does.
pub fn install(plugins: impl IntoIterator<Item = (String, PathBuf)>) {
    fs::create_dir_all(BIN).expect(BIN);
    for (name, target) in plugins {
        let new = format!("{BIN}/.{name}.new");
        symlink(&target, &new).expect("link");
        fs::rename(&new, format!("{BIN}/{name}")).expect("rename");
    }
}

/// The suite under each of its names.
pub fn ours() -> Vec<(String, PathBuf)> {
    let suite = tests::binaries::program("cni-suite");
    tests::binaries::PLUGINS
        .iter()
        .map(|name| (name.to_string(), suite.clone()))
        .collect()
}

/// Those of Debian's Go plugins that the suite implements too.
pub fn go() -> Vec<(String, PathBuf)> {
    let file = |name: &&str| (name.to_string(), Path::new(GO_PLUGINS).join(name));
    tests::binaries::PLUGINS
        .iter()
        .map(file)
        .filter(|(_, path)| path.exists())
        .collect()
}

/// Writes the conf list.
pub fn configure(conf_list: &str) {
    fs::create_dir_all(NET_D).expect(NET_D);
    fs::write(format!("{NET_D}/.10-test.conflist"), conf_list).expect("conf list");
    fs::rename(
        format!("{NET_D}/.10-test.conflist"),
        format!("{NET_D}/10-test.conflist"),
    )
    .expect("conf list");
}
