//! A container image of busybox alone, built locally as a docker-archive: no registry is needed.

use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tests::shell::sh;

/// The image's reference in both runtimes.
pub const NAME: &str = "localhost/busybox:1";
/// The path of the archive.
pub const ARCHIVE: &str = "/run/image/busybox.tar";

/// Writes [`ARCHIVE`].
pub fn build() {
    build_in(Path::new("/run/image"));
}

/// Writes the archive `busybox.tar` in a folder: one layer with /bin/busybox and links to it.
pub fn build_in(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "www"] {
        fs::create_dir_all(root.join(folder)).expect("layer");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for name in [
        "sh", "sleep", "ping", "nc", "ip", "wget", "timeout", "httpd", "cat", "hostname",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("link");
    }
    let at = folder.display();
    sh(&format!(
        "tar -C {at}/root --owner=0 --group=0 --numeric-owner -cf {at}/layer.tar ."
    ));
    let digest = sh(&format!("sha256sum {at}/layer.tar"));
    let digest = digest.split_whitespace().next().expect("digest").to_owned();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("config");
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("manifest");
    sh(&format!(
        "tar -C {at} -cf {at}/busybox.tar manifest.json config.json layer.tar"
    ));
    folder.join("busybox.tar")
}
