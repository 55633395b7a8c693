//! An image of the Go flanneld under the names that Go flannel's own manifest has: the daemon built
//! from its module, with iptables and nft of this machine. Its plugin `flannel` is not served as a
//! module; ours stands in for it and executes the Go plugins.

use crate::machine::Programs;
use runtimes::image;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use tests::{binaries, peers, shell::sh};

const FOLDER: &str = "/srv/go-flannel";
const MODULE: &str = "github.com/flannel-io/flannel";
/// Applets of one executable, as in Debian's package.
const IPTABLES: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];
/// Go flannel's command of this name, for the shell of busybox.
const INSTALL_CONF: &str = "#!/bin/sh\nexec cp -f \"$1\" \"$2\"\n";

/// What Go flannel needs.
pub(crate) struct GoFlannel {
    /// its manifest
    pub(crate) manifest: PathBuf,
    /// the archive of its image
    pub(crate) image: PathBuf,
    /// the folder of the Go plugins
    pub(crate) plugins: PathBuf,
}

impl GoFlannel {
    /// Builds the image. The error says what is missing.
    pub(crate) fn build() -> Result<GoFlannel, String> {
        let daemon = peers::built_from_go("flannel")?.join("flannel");
        let plugins = peers::built_from_go("plugins")?;
        let source = peers::go_module("flannel", MODULE)?;
        let manifest = source.join("Documentation/kube-flannel.yml");
        let root = Path::new(FOLDER).join("root");
        fill(&root, &daemon);
        let text = fs::read_to_string(&manifest).expect("manifest");
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image: "));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        Ok(GoFlannel {
            manifest,
            image: image::pack(Path::new(FOLDER), "image.tar", &names),
            plugins,
        })
    }
}

/// The files of the image.
fn fill(root: &Path, daemon: &Path) {
    for folder in [
        "opt/bin", "usr/sbin", "proc", "sys", "dev", "etc", "run", "tmp",
    ] {
        fs::create_dir_all(root.join(folder)).expect("layer");
    }
    image::install_busybox(root);
    let daemon = daemon.display();
    let at = root.display();
    sh(&format!(
        "cp {daemon} {at}/opt/bin/flanneld && cp /usr/sbin/xtables-nft-multi /usr/sbin/nft {at}/usr/sbin/ \
         && cp -r --parents $(dirname $(find /usr/lib -name libxt_comment.so)) {at} \
         && for f in {daemon} /usr/sbin/xtables-nft-multi /usr/sbin/nft; do ldd $f; done \
            | grep -o '/lib[^ ]*' | sort -u | xargs cp -L --parents -t {at}"
    ));
    for name in IPTABLES {
        symlink("xtables-nft-multi", root.join("usr/sbin").join(name)).expect("link");
    }
    fs::copy(binaries::program("cni-suite"), root.join("flannel")).expect("plugin");
    let script = root.join("opt/bin/install-conf");
    fs::write(&script, INSTALL_CONF).expect("script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("mode");
}

impl crate::node::Node<'_> {
    /// Imports the image, and installs the Go plugins as a distribution does.
    pub(crate) fn prepare_for_go_flannel(&self, programs: &Programs, go: &GoFlannel) {
        self.import(programs, &go.image);
        let plugins = go.plugins.display();
        self.host.sh(&format!("cp {plugins}/* /opt/cni/bin/"));
    }
}
