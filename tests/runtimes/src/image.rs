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
    for folder in ["etc", "proc", "sys", "dev", "tmp", "www"] {
        fs::create_dir_all(root.join(folder)).expect("layer");
    }
    install_busybox(&root);
    pack(folder, "busybox.tar", &[NAME])
}

/// Copies busybox to /bin of an image's root, with links to it.
pub fn install_busybox(root: &Path) {
    fs::create_dir_all(root.join("bin")).expect("layer");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for name in [
        "sh", "sleep", "ping", "nc", "ip", "wget", "timeout", "httpd", "cat", "hostname", "cp",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("link");
    }
}

/// Writes the archive of an image with several names, whose one layer is the folder's `root`.
pub fn pack(folder: &Path, file: &str, names: &[&str]) -> PathBuf {
    let at = folder.display();
    sh(&format!(
        "tar -C {at}/root --owner=0 --group=0 --numeric-owner -cf {at}/layer.tar ."
    ));
    let digest = sh(&format!("sha256sum {at}/layer.tar"));
    let digest = digest.split_whitespace().next().expect("digest").to_owned();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin:/usr/sbin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("config");
    let manifest = json!([{ "Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"] }]);
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("manifest");
    sh(&format!(
        "tar -C {at} -cf {at}/{file} manifest.json config.json layer.tar"
    ));
    folder.join(file)
}
