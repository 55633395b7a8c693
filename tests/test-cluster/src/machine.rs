//! The machine that the cluster runs on: network, mount and process namespaces of its own, but the
//! real root user, whom runc needs, and control groups that the outer process removes.

use nix::{
    sys::signal::{SigSet, Signal},
    unistd::Uid,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
    thread,
    time::Duration,
};
use tests::{binaries, peers, sandbox};

/// The variable with the name of the control group, in the inner process.
const GROUP: &str = "TEST_CLUSTER_GROUP";
const HIERARCHIES: &str = "/sys/fs/cgroup";
const REMOVAL_ATTEMPTS: usize = 100;
const REMOVAL_DELAY: Duration = Duration::from_millis(50);

/// The programs that the cluster needs, with the Debian package of each.
const PROGRAMS: [(&str, &str); 8] = [
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("kubectl", "kubernetes-client"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("conntrack", "conntrack"),
];

/// Where Kubernetes and containerd are built.
pub(crate) struct Programs {
    pub(crate) kubernetes: PathBuf,
    pub(crate) containerd: PathBuf,
    /// the OCI archive of `make image`
    pub(crate) image: PathBuf,
}

/// What the cluster needs. The error says what is missing.
pub(crate) fn programs() -> Result<Programs, String> {
    if !Uid::effective().is_root() {
        return Err("containerd and kubelet need root".into());
    }
    if let Some(reason) = PROGRAMS
        .iter()
        .find_map(|(program, package)| peers::without_program(program, package))
    {
        return Err(reason);
    }
    if !Path::new("/bin/busybox").exists() {
        return Err("no /bin/busybox (Debian package busybox-static)".into());
    }
    let image = env::var_os("IMAGE_ARCHIVE").map(PathBuf::from);
    let image = image.filter(|path| path.exists());
    Ok(Programs {
        kubernetes: peers::built_from_go("kubernetes")?,
        containerd: peers::built_from_go("containerd")?,
        image: image.ok_or("no image: run `make image` first, IMAGE_ARCHIVE names its archive")?,
    })
}

/// Moves the process into the machine's namespaces. Call it first in `main`; returns inside. The
/// outer process waits, ends everything at SIGINT or SIGTERM, removes the control groups, and exits
/// with the same code.
pub(crate) fn enter() {
    if env::var_os(GROUP).is_none() {
        exit(supervise());
    }
    sandbox::private_folders();
    sandbox::mount_shared_folder();
    sandbox::enable_forwarding();
    sandbox::loopback_up();
}

/// The path of a control group of the cluster, relative to each hierarchy.
pub(crate) fn control_group(name: &str) -> String {
    let group = env::var(GROUP).expect("set by the outer process");
    format!("/{group}/{name}")
}

/// Creates a control group in each hierarchy; kubelet wants its root to exist.
pub(crate) fn create_control_group(group: &str) {
    for hierarchy in hierarchies() {
        let path = format!("{}{group}", hierarchy.display());
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // a fresh group of this controller has neither processors nor memory
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(&hierarchy, group, file);
        }
    }
}

/// Copies a setting of the hierarchy's root to each level of a group.
fn inherit(hierarchy: &Path, group: &str, file: &str) {
    let Ok(value) = fs::read_to_string(hierarchy.join(file)) else {
        return;
    };
    let mut level = hierarchy.to_owned();
    for name in group.split('/').filter(|name| !name.is_empty()) {
        level.push(name);
        fs::write(level.join(file), &value)
            .unwrap_or_else(|error| panic!("{}: {file}: {error}", level.display()));
    }
}

/// The mounted hierarchies: one of version 2, or one for each controller of version 1.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields[2].starts_with("cgroup") && fields[1].starts_with(HIERARCHIES))
        .map(|fields| PathBuf::from(fields[1]))
        .collect()
}

/// Runs the inner process; its exit code.
fn supervise() -> i32 {
    let group = format!("test-cluster-{}", std::process::id());
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().expect("signal mask");
    let mut command = sandbox::unshare(&["--net"], "TEST_CLUSTER");
    let mut child = command
        .env(GROUP, &group)
        .env("BIN_DIR", binaries::folder())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run unshare (Debian package util-linux): {error}"));
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    thread::spawn(move || {
        let signal = signals.wait().expect("signal");
        eprintln!("{signal}: the cluster ends");
        // every process of the namespaces ends with it; it may have ended already
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    });
    let status = child.wait().expect("wait");
    match remove_control_groups(&group) {
        Ok(()) => {
            println!("nothing of the cluster is left on this machine");
            status.code().unwrap_or(1)
        }
        Err(error) => {
            eprintln!("left behind: {error}");
            1
        }
    }
}

/// Removes the groups of the cluster. The group of a process that was just killed stays busy for a
/// moment.
fn remove_control_groups(group: &str) -> Result<(), String> {
    let mut failed = None;
    for _ in 0..REMOVAL_ATTEMPTS {
        failed = hierarchies()
            .iter()
            .find_map(|hierarchy| remove_tree(&hierarchy.join(group)).err());
        if failed.is_none() {
            return Ok(());
        }
        thread::sleep(REMOVAL_DELAY);
    }
    failed.map_or(Ok(()), Err)
}

fn remove_tree(path: &Path) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path).map_err(|error| format!("{}: {error}", path.display()))
}
