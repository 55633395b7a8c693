//! The machines of a page: hosts with an /etc and a /usr/local/bin of their own, and the commands
//! that a reader has there.

use super::Place;
use crate::{Host, Underlay, binaries, sandbox};
use std::{
    env, fs,
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, symlink},
    },
    process::{self, Command, Output},
};

/// In front of the PATH: what stands for the machines' own service manager, log, and network.
const COMMANDS: &str = "/run/commands";
const HOME: &str = "/run/home";

/// The programs are built already, and the source tree is not the working directory.
const MAKE: &str = r#"#!/bin/sh
[ "$*" = build ] && exit 0
unset MAKEFLAGS MAKELEVEL
PATH=${PATH#*:} exec make -s --no-print-directory -C @ROOT@ bin=@BIN@ "$@"
"#;

/// `ssh root@NAME COMMAND...`
const SSH: &str = r#"#!/bin/sh
read -r net mnt <"@COMMANDS@/machines/${1#*@}" || exit 255
shift
exec nsenter --net="$net" --mount="$mnt" --wdns=@HOME@ sh -c "$*"
"#;

/// `scp [-p] [-r] FILE... root@NAME:PATH`
const SCP: &str = r#"#!/bin/sh
set -eu
while [ "${1#-}" != "$1" ]; do shift; done
for last; do :; done
while [ $# -gt 1 ]; do
    tar -C "$(dirname "$1")" -c "$(basename "$1")" | ssh "${last%%:*}" \
        "if [ -d ${last#*:} ]; then tar -C ${last#*:} -x; else tar -x -O >${last#*:}; fi"
    shift
done
"#;

/// `journalctl -u UNIT`, other options have no effect.
const JOURNALCTL: &str = r#"#!/bin/sh
while [ "$1" != -u ]; do shift; done
cat "/run/log/$2.log"
"#;

/// Machines at 10.0.0.N/24 and 2001:db8::N/64, N from 1. Nothing is installed on them, they do not
/// forward, and each reaches the others by `ssh` and `scp`.
pub struct Machines {
    underlay: Underlay,
    names: Vec<String>,
}

impl Machines {
    pub fn new(names: &[&str]) -> Machines {
        let underlay = Underlay::new(names.len());
        let machines = Machines {
            underlay,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        machines.underlay.switch.sh(
            "ip addr add 10.0.0.254/24 dev underlay && ip addr add 2001:db8::fe/64 dev underlay nodad",
        );
        for number in 1..=names.len() {
            machines.prepare(number);
        }
        machines
    }

    fn prepare(&self, number: usize) {
        let host = &self.underlay.hosts[number - 1];
        host.sh(&format!(
            "ip addr flush dev eth0 scope global && ip addr add 10.0.0.{number}/24 dev eth0 \
             && ip addr add 2001:db8::{number}/64 dev eth0 nodad \
             && ip route replace default via 10.0.0.254 && ip -6 route replace default via 2001:db8::fe \
             && echo 0 > /proc/sys/net/ipv4/ip_forward && echo 0 > /proc/sys/net/ipv6/conf/all/forwarding \
             && mkdir -p {HOME} {COMMANDS}/machines"
        ));
        host.run(|| {
            for folder in ["/etc", "/usr/local/bin"] {
                sandbox::private_copy(folder);
            }
            // what another network of this machine has
            for folder in ["/etc/cni", "/etc/flannel", "/etc/kube-flannel"] {
                let _ = fs::remove_dir_all(folder);
            }
        });
        for (name, text) in [
            ("make", MAKE),
            ("ssh", SSH),
            ("scp", SCP),
            ("journalctl", JOURNALCTL),
        ] {
            let text = text
                .replace("@ROOT@", super::ROOT)
                .replace("@BIN@", &binaries::folder().display().to_string())
                .replace("@HOME@", HOME)
                .replace("@COMMANDS@", COMMANDS);
            let path = format!("{COMMANDS}/{name}");
            host.write(&path, &text);
            host.run(|| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
                .expect("mode");
        }
        let this = env::current_exe().expect("own path");
        host.run(|| symlink(this, format!("{COMMANDS}/systemctl")))
            .expect("systemctl");
        for (name, other) in self.names.iter().zip(&self.underlay.hosts) {
            host.write(&format!("{COMMANDS}/machines/{name}"), &namespaces(other));
        }
    }

    /// The host of a name.
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        let at = self.names.iter().position(|one| one == name);
        &self.underlay.hosts[at.unwrap_or_else(|| panic!("no machine {name}"))]
    }

    /// The network between the machines.
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    pub(super) fn select(&self, place: &Place) -> Vec<&str> {
        let names = self.names.iter().map(String::as_str);
        match place {
            Place::First => names.take(1).collect(),
            Place::Every => names.collect(),
            Place::Named(named) => {
                for name in named {
                    self.host(name);
                }
                names
                    .filter(|name| named.iter().any(|one| one == name))
                    .collect()
            }
        }
    }

    /// Runs a script as root does on that machine; it ends at the first failure.
    pub fn try_sh(&self, name: &str, script: &str) -> Output {
        let path = env::var("PATH").unwrap_or_default();
        let script = script.to_owned();
        self.host(name).run(move || {
            Command::new("sh")
                .args(["-ec", &script])
                .current_dir(HOME)
                .env("HOME", HOME)
                .env(
                    "PATH",
                    format!("{COMMANDS}:/usr/local/bin:/usr/sbin:/sbin:{path}"),
                )
                .output()
                .expect("sh")
        })
    }

    /// The same; its stdout. Panics if it fails.
    #[track_caller]
    pub fn sh(&self, name: &str, script: &str) -> String {
        crate::shell::checked(name, script, &self.try_sh(name, script))
    }
}

impl Drop for Machines {
    /// The daemons are no children of this process, and would hold the namespaces.
    fn drop(&mut self) {
        for name in &self.names {
            self.try_sh(name, "systemctl stop flanneld");
        }
    }
}

/// The paths of a host's namespaces, for every process of the sandbox.
fn namespaces(host: &Host) -> String {
    let path = |fd: i32| format!("/proc/{}/fd/{fd}", process::id());
    format!(
        "{} {}\n",
        path(host.net_fd().as_raw_fd()),
        path(host.mnt_fd().as_raw_fd())
    )
}
