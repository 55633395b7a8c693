//! The paths of the programs under test.

use std::{
    env,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The folder of the plugins on a host.
pub const BIN: &str = "/opt/cni/bin";

/// The folder with `cni-suite`, `flanneld` and `cnitool`: `$BIN_DIR`, or the folder of this
/// executable, or of its parent where it is in `deps`.
pub fn folder() -> PathBuf {
    env::var_os("BIN_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let exe = env::current_exe().expect("own path");
            let folder = exe.parent().expect("folder");
            if folder.ends_with("deps") {
                folder.parent().expect("target folder").to_owned()
            } else {
                folder.to_owned()
            }
        })
}

/// The path of a program; panics with the remedy if it is not built.
pub fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make build`, or set BIN_DIR",
        path.display()
    );
    path
}

/// The plugin types that the suite implements.
pub static PLUGINS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("../../plugins/suite/names")
        .split_whitespace()
        .collect()
});

/// Fills a folder like /opt/cni/bin: a link to the suite for each plugin type.
pub fn install_suite(bin: &Path) {
    std::fs::create_dir_all(bin).expect("bin folder");
    let suite = program("cni-suite");
    for name in PLUGINS.iter() {
        symlink(&suite, bin.join(name)).expect("link");
    }
}
