//! A container image made on the spot: busybox and nothing else, as a docker-archive. No registry is asked.

use serde_json::json;
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// The image's reference in both runtimes.
pub const NAME: &str = "localhost/busybox:1";
/// Where the archive is.
pub const ARCHIVE: &str = "/run/image/busybox.tar";

/// Writes the archive: one layer with /bin/busybox and links to it.
pub fn build() {
    let root = Path::new("/run/image/root");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "www"] {
        fs::create_dir_all(root.join(folder)).expect("layer");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for name in [
        "sh", "sleep", "ping", "nc", "ip", "wget", "timeout", "httpd", "cat", "hostname",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("link");
    }
    run("tar -C /run/image/root --owner=0 --group=0 --numeric-owner -cf /run/image/layer.tar .");
    let digest = run("sha256sum /run/image/layer.tar");
    let digest = digest.split_whitespace().next().expect("digest").to_owned();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write("/run/image/config.json", config.to_string()).expect("config");
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    fs::write("/run/image/manifest.json", manifest.to_string()).expect("manifest");
    run("tar -C /run/image -cf /run/image/busybox.tar manifest.json config.json layer.tar");
}

/// Runs a shell command; its stdout. Panics if it fails.
#[track_caller]
pub fn run(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("sh");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{command}`: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
