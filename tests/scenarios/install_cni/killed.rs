//! SIGKILL at every system call that changes a file.

use super::{BIN, CNI_CONF, CONF_LIST, Node};
use std::collections::{BTreeMap, BTreeSet};
use tests::{binaries, scenario};

/// The calls that can change something on the disk.
const CHANGING: &str = "openat,mkdir,write,copy_file_range,fsync,fchmod,chmod,flock,link,linkat,symlink,\
    rename,renameat,renameat2,unlink,unlinkat";

type Files = BTreeMap<String, (u32, Vec<u8>)>;

impl Node {
    fn traced(&self, inject: &str, command: &str) -> bool {
        let flanneld = binaries::program("flanneld");
        let script = format!(
            "strace -f -qq -o /run/trace -e trace={CHANGING} {inject} {} {command}",
            flanneld.display()
        );
        self.0.try_sh(&script).status.success()
    }

    /// Each call that changes something: its name and its count from 1.
    fn steps(&self, command: &str) -> Vec<(String, usize)> {
        assert!(self.traced("", command), "{command}");
        let trace = self.0.sh("cat /run/trace");
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut steps = Vec::new();
        for line in trace.lines() {
            // 123 openat(AT_FDCWD, ...
            let Some((_, call)) = line.split_once(' ') else {
                continue;
            };
            let Some((name, arguments)) = call.trim_start().split_once('(') else {
                continue;
            };
            let count = counts.entry(name.to_owned()).or_default();
            *count += 1;
            if name != "openat" || arguments.contains("O_CREAT") {
                steps.push((name.to_owned(), *count));
            }
        }
        steps
    }
}

/// Files that a node's programs look at: no hidden ones, no kept ones.
fn visible(files: &Files) -> Files {
    let is_visible = |path: &&String| !path.contains("/.") && !path.ends_with(".before-flanneld");
    let names = files.keys().filter(is_visible);
    names
        .map(|path| (path.clone(), files[path].clone()))
        .collect()
}

/// Kills `command` at every step: each file is the old one or the new one. The next run succeeds,
/// and `uninstall-cni` restores the node.
fn killed_at_every_step(prepare: &str, command: &str) {
    let start = || {
        let node = Node::new();
        // an executable's header: the real suite takes seconds to hash in a debug build
        let suite = binaries::program("cni-suite");
        node.0
            .sh(&format!("head -c 4096 {} > /run/suite", suite.display()));
        let original = node.files();
        if !prepare.is_empty() {
            node.ok(prepare);
        }
        (node, original)
    };
    let (node, original) = start();
    let old = visible(&node.files());
    let steps = node.steps(command);
    let new = visible(&node.files());
    assert!(steps.len() >= 4, "{steps:?}");
    let mut unfinished = BTreeSet::new();
    for (name, count) in &steps {
        let (node, _) = start();
        let inject = format!("-e inject={name}:signal=SIGKILL:when={count}");
        assert!(
            !node.traced(&inject, command),
            "{name} {count} was not reached"
        );
        let files = visible(&node.files());
        for path in old.keys().chain(new.keys()) {
            let file = files.get(path);
            assert!(
                file == old.get(path) || file == new.get(path),
                "{path} is neither old nor new after a kill at {name} {count}"
            );
        }
        let other = files
            .keys()
            .find(|path| !old.contains_key(*path) && !new.contains_key(*path));
        assert_eq!(other, None, "after a kill at {name} {count}");
        unfinished.extend(
            node.files()
                .into_keys()
                .filter(|path| path.ends_with(".tmp")),
        );
        if count % 2 == 0 {
            node.ok(command);
            assert!(
                visible(&node.files()) == new,
                "the run after a kill at {name} {count}"
            );
        }
        node.ok("uninstall-cni");
        let left = node.files();
        assert!(
            left == original,
            "kill at {name} {count}: {:?}",
            left.keys()
        );
    }
    assert!(
        command == "uninstall-cni" || !unfinished.is_empty(),
        "no kill was in a write"
    );
}

fn cannot_trace() -> Option<String> {
    crate::fault_points::cannot_trace()
}

#[scenario(unless = cannot_trace)]
fn install_cni_leaves_old_or_new_plugins() {
    killed_at_every_step("", "install-cni -source=/run/suite");
}

#[scenario(unless = cannot_trace)]
fn install_conf_leaves_the_old_or_the_new_configuration() {
    killed_at_every_step("", &format!("install-conf {CNI_CONF} {CONF_LIST}"));
}

#[scenario(unless = cannot_trace)]
fn uninstall_cni_continues_where_it_was_killed() {
    killed_at_every_step(
        "install-cni -source=/run/suite -replace=all",
        "uninstall-cni",
    );
}

#[scenario(unless = cannot_trace)]
fn an_update_leaves_old_or_new_plugins() {
    // the same plugins with other permission bits are replaced as well
    killed_at_every_step(
        "install-cni -source=/run/suite",
        &format!("install-cni -source={BIN}/flannel -plugins=all -replace=bridge,flannel"),
    );
}
