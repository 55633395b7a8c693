//! What is checked and asked before anything is removed.

use crate::{
    backend,
    cli::options::{CleanupOptions, NodeOptions},
    daemon::{InstanceError, InstanceLock, PrivilegeError, Resource, check_privilege, process},
    rules::RuleNames,
};
use linux_net::Netlink;
use std::io::{self, BufRead, IsTerminal, Write};

const QUESTION: &str = "\
This removes flanneld's devices, routes, rules and subnet.env from this node. Its pods lose the pod network.
Go on? [y/N] ";

/// Why cleanup does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// A daemon manages what would be removed.
    #[error(
        "flanneld{} runs and manages {resource}: stop it first (systemctl stop flanneld; on Kubernetes, kubectl \
         delete of its DaemonSet)",
        process(*.pid)
    )]
    Running {
        resource: Resource,
        pid: Option<i32>,
    },
    /// The process lacks a capability.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    #[error(transparent)]
    Instance(InstanceError),
    #[error(transparent)]
    Netlink(#[from] linux_net::Error),
    /// The answer was no, or none.
    #[error("nothing was removed: the answer was not yes (-yes asks nothing)")]
    Declined,
}

/// Succeeds if no daemon runs and the user agrees. No daemon starts while the lock is
/// held.
pub(super) fn obtain(node: &NodeOptions, cleanup: CleanupOptions) -> Result<InstanceLock, Refused> {
    check_privilege()??;
    let links = Netlink::open()?.links()?;
    let devices = links.iter().filter(|link| backend::owns_device(link));
    let devices = devices.map(|link| Resource::Device(link.name.clone()));
    let files = [
        Resource::File(node.subnet_file.clone(), "-subnet-file"),
        Resource::File(node.state_file.clone(), "-state-file"),
    ];
    // a daemon whose backend has no device holds rules
    let rules = [RuleNames::upstream(), RuleNames::of_second(None)];
    let rules = rules.iter().map(Resource::rules);
    let resources = files.into_iter().chain(devices).chain(rules);
    let lock = InstanceLock::acquire(resources).map_err(|error| match error {
        InstanceError::Held { resource, pid } => Refused::Running { resource, pid },
        error => Refused::Instance(error),
    })?;
    let asks = !cleanup.yes && io::stdin().is_terminal();
    if asks && !is_yes(&answer()) {
        return Err(Refused::Declined);
    }
    Ok(lock)
}

/// One line from the terminal; empty at its end.
fn answer() -> String {
    let mut line = String::new();
    let mut out = io::stderr();
    let asked = out
        .write_all(QUESTION.as_bytes())
        .and_then(|()| out.flush());
    match asked.and_then(|()| io::stdin().lock().read_line(&mut line)) {
        Ok(_) => line,
        Err(_) => String::new(),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for answer in ["y\n", "Y\n", "yes\n", " YES \n"] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yess\n", "yn\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
