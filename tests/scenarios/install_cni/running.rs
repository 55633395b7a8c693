//! Installation under running plugins and beside another installation.

use super::{BIN, Node};
use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};
use tests::{binaries, scenario};

const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"n","type":"loopback"}"#;

fn version() -> Command {
    let mut command = Command::new(format!("{BIN}/loopback"));
    command.env("CNI_COMMAND", "VERSION");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn del() -> Command {
    let mut command = version();
    command
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", "c");
    command.env("CNI_IFNAME", "lo").env("CNI_PATH", BIN);
    command
}

#[scenario]
fn a_plugin_that_runs_is_replaced_and_finishes() {
    let node = Node::new();
    node.ok("install-cni");
    // DEL waits for the end of its configuration
    let mut running = node.0.run(|| del().spawn().expect("loopback"));
    // one byte more is another build
    let suite = binaries::program("cni-suite");
    node.0.sh(&format!(
        "cp {} /run/newer && echo >> /run/newer",
        suite.display()
    ));
    let printed = node.ok("install-cni -source=/run/newer");
    assert!(
        printed.contains("/opt/cni/bin/loopback (updated)"),
        "{printed}"
    );
    let mut stdin = running.stdin.take().expect("stdin");
    stdin
        .write_all(CONFIG.as_bytes())
        .expect("the plugin still reads");
    drop(stdin);
    let output = running.wait_with_output().expect("loopback");
    assert!(output.status.success(), "{output:?}");
}

#[scenario]
fn plugins_are_executable_at_every_moment() {
    let node = Node::new();
    let suite = binaries::program("cni-suite");
    node.0.sh(&format!(
        "cp {} /run/a && cp /run/a /run/b && echo >> /run/b",
        suite.display()
    ));
    node.ok("install-cni -source=/run/a");
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let call = || {
        while !done.load(Ordering::Relaxed) {
            let output = version().stdin(Stdio::null()).output().expect("loopback");
            assert!(output.status.success(), "{output:?}");
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let calling = scope.spawn(|| node.0.run(call));
        for source in ["b", "a", "b", "a"] {
            let before = calls.load(Ordering::Relaxed);
            let printed = node.ok(&format!("install-cni -source=/run/{source}"));
            assert!(printed.contains("loopback (updated)"), "{printed}");
            while calls.load(Ordering::Relaxed) == before && !calling.is_finished() {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        calling.join().expect("every call succeeds");
    });
}

#[scenario]
fn installations_at_the_same_time_take_turns() {
    let node = Node::new();
    let before = node.files();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| node.ok("install-cni"));
        }
    });
    let kept = &node.files()[&format!("{BIN}/flannel.before-flanneld")];
    assert_eq!(
        kept.1, b"the node's flannel",
        "no run took another's file for the node's"
    );
    node.ok("uninstall-cni");
    assert!(node.files() == before);
}
