//! Shell commands in the calling thread's namespaces.

use std::process::{Command, Output};

/// Runs a shell command; its stdout. Panics with its stdout and stderr if it fails.
#[track_caller]
pub fn sh(command: &str) -> String {
    checked("sh", command, &try_sh(command))
}

/// Runs a shell command that may fail.
pub fn try_sh(command: &str) -> Output {
    Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("sh")
}

/// The stdout of a command that ran at `place`; panics if it failed.
#[track_caller]
pub(crate) fn checked(place: &str, command: &str, output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{place}: `{command}` failed ({})\nstdout: {stdout}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
