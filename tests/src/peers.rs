//! Programs of other makes that scenarios and benchmarks run beside ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of Debian's package containernetworking-plugins: the Go plugins, version 1.1.1.
pub const GO_PLUGINS: &str = "/usr/lib/cni";

/// The reason to skip where Debian's Go plugins are missing.
pub fn without_go_plugins() -> Option<String> {
    let missing = !Path::new(GO_PLUGINS).join("bridge").exists();
    missing.then(|| format!("no {GO_PLUGINS}/bridge (Debian package containernetworking-plugins)"))
}

/// The folder of the programs that `scripts/go-peer` built from the module pinned in
/// `tests/peers/NAME`. The error is the reason to skip.
pub fn built_from_go(name: &str) -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/go-peer");
    let output = Command::new(script)
        .args(["path", name])
        .output()
        .map_err(|error| format!("{script}: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if folder.is_dir() {
        return Ok(folder);
    }
    let why_not = folder.with_extension("why-not");
    Err(match fs::read_to_string(why_not) {
        Ok(reason) => reason.trim().to_owned(),
        Err(_) => format!("not built yet: scripts/go-peer build {name}"),
    })
}
