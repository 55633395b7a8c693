//! What the CNI plugins keep of containers that no longer exist: their executable removes it.

use super::report::Report;
use std::{env, path::PathBuf, process::Command};

/// The executable that is all plugins.
const SUITE: &str = "cni-suite";
/// The usual folder of the plugins.
const BIN_DIR: &str = "/opt/cni/bin";
const WHAT: &str = "what the CNI plugins keep of containers that no longer exist";

/// Runs `cni-suite prune`, if there is one in flanneld's folder or in that of the plugins.
pub(super) fn prune(report: &mut Report) {
    let own = env::current_exe().ok();
    let own = own.and_then(|path| Some(path.parent()?.to_owned()));
    let folders = own.into_iter().chain([PathBuf::from(BIN_DIR)]);
    let mut suites = folders.map(|folder| folder.join(SUITE));
    let Some(suite) = suites.find(|path| path.exists()) else {
        return;
    };
    match Command::new(&suite).arg("prune").output() {
        Err(error) => report.left(WHAT, format_args!("{}: {error}", suite.display())),
        Ok(output) => {
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            let understood = lines.lines().filter(|line| report.line(line)).count();
            if !output.status.success() && understood == 0 {
                let reason = String::from_utf8_lossy(&output.stderr);
                report.left(
                    WHAT,
                    format_args!("{} prune: {}", suite.display(), reason.trim()),
                );
            }
        }
    }
}
