//! A host: a network and a mount namespace. A pod: a network namespace of a host, at /run/netns/NAME as people know it.

use crate::{Process, sandbox};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::File,
    os::fd::OwnedFd,
    process::{Command, Output},
    thread,
};

/// A machine of the test's. It lives as long as this value or a process in it does.
pub struct Host {
    /// For messages.
    pub name: String,
    net: OwnedFd,
    mnt: OwnedFd,
}

/// A pod's network namespace on a host.
pub struct Pod<'h> {
    /// Name below /run/netns.
    pub name: String,
    /// Where it is.
    pub host: &'h Host,
}

fn in_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Host {
    /// A host with a loopback interface, forwarding on, and its own /run, /opt and /var/lib.
    pub fn new(name: &str) -> Host {
        let (net, mnt) = in_new_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
                .expect("unshare");
            sandbox::private_folders();
            for (key, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
                std::fs::write(format!("/proc/sys/net/{key}"), value).expect(key);
            }
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

    /// Runs `f` in a thread inside the host's namespaces.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        in_new_thread(|| {
            self.enter();
            f()
        })
    }

    fn enter(&self) {
        unshare(CloneFlags::CLONE_FS).expect("unshare fs");
        setns(&self.mnt, CloneFlags::CLONE_NEWNS).expect("enter mount namespace");
        setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter network namespace");
    }

    /// The network namespace, to move a link into it.
    pub fn net_fd(&self) -> &OwnedFd {
        &self.net
    }

    /// The mount namespace, to let somebody in.
    pub fn mnt_fd(&self) -> &OwnedFd {
        &self.mnt
    }

    /// Runs a shell command; its stdout. Panics with everything it said if it fails.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        checked(&self.name, command, self.try_sh(command))
    }

    /// Runs a shell command and gives what came of it.
    pub fn try_sh(&self, command: &str) -> Output {
        self.run(|| {
            Command::new("sh")
                .args(["-c", command])
                .output()
                .expect("sh")
        })
    }

    /// Starts a long-lived program; it is killed when the value is dropped.
    pub fn spawn(&self, command: Command) -> Process {
        self.run(move || Process::start(command))
    }

    /// Makes /run/netns/NAME.
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
    /// What goes into CNI_NETNS.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `f` in a thread inside the pod's network (and its host's mount) namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.host.run(|| {
            let ns = File::open(self.path()).expect("pod's namespace");
            setns(ns, CloneFlags::CLONE_NEWNET).expect("enter pod");
            f()
        })
    }

    /// Runs a shell command inside; its stdout. Panics if it fails.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        checked(&self.name, command, self.try_sh(command))
    }

    /// Runs a shell command inside and gives what came of it.
    pub fn try_sh(&self, command: &str) -> Output {
        self.run(|| {
            Command::new("sh")
                .args(["-c", command])
                .output()
                .expect("sh")
        })
    }

    /// Starts a long-lived program inside.
    pub fn spawn(&self, command: Command) -> Process {
        self.run(move || Process::start(command))
    }

    /// Takes the namespace away.
    pub fn delete(&self) {
        self.host.sh(&format!("ip netns del {}", self.name));
    }
}

#[track_caller]
fn checked(place: &str, command: &str, output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{place}: `{command}` failed ({})\nstdout: {stdout}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
