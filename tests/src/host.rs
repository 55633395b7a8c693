//! A host is a network and a mount namespace. A pod is a network namespace of a host, mounted at
//! /run/netns/NAME.

use crate::{
    Process,
    binaries::{self, BIN},
    sandbox, shell,
};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::{self, File},
    io::Write,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

/// A network and a mount namespace. They exist while this value or a process in them does.
pub struct Host {
    /// Shown in failures.
    pub name: String,
    net: OwnedFd,
    mnt: OwnedFd,
}

/// A pod's network namespace on a host.
pub struct Pod<'h> {
    /// Name below /run/netns.
    pub name: String,
    /// The host that it belongs to.
    pub host: &'h Host,
}

fn in_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Host {
    /// A host with a loopback interface, with forwarding enabled, and with its own /run, /opt and
    /// /var/lib.
    pub fn new(name: &str) -> Host {
        let (net, mnt) = in_new_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
                .expect("unshare");
            sandbox::private_folders();
            sandbox::enable_forwarding();
            let open = |kind: &str| {
                OwnedFd::from(File::open(format!("/proc/thread-self/ns/{kind}")).expect("ns"))
            };
            (open("net"), open("mnt"))
        });
        let host = Host {
            name: name.to_owned(),
            net,
            mnt,
        };
        host.sh("ip link set lo up");
        host
    }

    /// A host with the suite in [`BIN`].
    pub fn with_suite(name: &str) -> Host {
        let host = Host::new(name);
        host.run(|| binaries::install_suite(BIN.as_ref()));
        host
    }

    /// Another handle of the same namespaces.
    pub fn handle(&self) -> Host {
        Host {
            name: self.name.clone(),
            net: self.net.try_clone().expect("file descriptor"),
            mnt: self.mnt.try_clone().expect("file descriptor"),
        }
    }

    /// Writes a file, and creates the folders above it.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let folder = Path::new(path).parent().expect("folder");
        self.run(|| fs::create_dir_all(folder).and_then(|()| fs::write(path, text)))
            .unwrap_or_else(|error| panic!("{}: {path}: {error}", self.name));
    }

    /// Runs `f` in a thread inside the host's namespaces.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        in_new_thread(|| {
            self.enter();
            f()
        })
    }

    /// Moves the calling thread into the host's namespaces, for a thread that stays there.
    pub(crate) fn enter(&self) {
        unshare(CloneFlags::CLONE_FS).expect("unshare fs");
        setns(&self.mnt, CloneFlags::CLONE_NEWNS).expect("enter mount namespace");
        setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter network namespace");
    }

    /// The network namespace, to move a link into it.
    pub fn net_fd(&self) -> &OwnedFd {
        &self.net
    }

    /// The mount namespace, for a process that enters the host.
    pub fn mnt_fd(&self) -> &OwnedFd {
        &self.mnt
    }

    /// Runs a shell command on the host; its stdout. Panics with all output if it fails.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        shell::checked(&self.name, command, &self.try_sh(command))
    }

    /// Runs a shell command on the host that may fail.
    pub fn try_sh(&self, command: &str) -> Output {
        self.run(|| shell::try_sh(command))
    }

    /// Runs a program on the host with a text on its stdin; it may fail, and need not read it all.
    pub fn output(&self, mut command: Command, stdin: &str) -> Output {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.run(|| {
            let started = command.spawn();
            let mut child = started.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
            let mut input = child.stdin.take().expect("stdin");
            let _ = input.write_all(stdin.as_bytes());
            drop(input);
            child.wait_with_output().expect("output")
        })
    }

    /// Starts a program on the host in the background; dropping the value kills it.
    pub fn spawn(&self, command: Command) -> Process {
        self.run(move || Process::start(command))
    }

    /// Creates the network namespace /run/netns/NAME.
    #[track_caller]
    pub fn pod(&self, name: &str) -> Pod<'_> {
        self.sh(&format!(
            "ip netns add {name} && ip -n {name} link set lo up"
        ));
        Pod {
            name: name.to_owned(),
            host: self,
        }
    }
}

impl Pod<'_> {
    /// The path of the network namespace, as in CNI_NETNS.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `f` in a thread inside the pod's network namespace and its host's mount namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.host.run(|| {
            let ns = File::open(self.path()).expect("pod's namespace");
            setns(ns, CloneFlags::CLONE_NEWNET).expect("enter pod");
            f()
        })
    }

    /// Runs a shell command in the pod; its stdout. Panics with all output if it fails.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        shell::checked(&self.name, command, &self.try_sh(command))
    }

    /// Runs a shell command in the pod that may fail.
    pub fn try_sh(&self, command: &str) -> Output {
        self.run(|| shell::try_sh(command))
    }

    /// Starts a program in the pod in the background; dropping the value kills it.
    pub fn spawn(&self, command: Command) -> Process {
        self.run(move || Process::start(command))
    }

    /// Deletes the namespace.
    pub fn delete(&self) {
        self.host.sh(&format!("ip netns del {}", self.name));
    }
}
