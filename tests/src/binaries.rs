//! Where the programs under test are.

use std::{
    env,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The folder with `cni-suite`, `flanneld` and `cnitool`: `$BIN_DIR`, else the folder above this executable's `deps`.
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

/// One program; panics with the way out if it is not built.
pub fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make build`, or set BIN_DIR",
        path.display()
    );
    path
}

/// The names that the suite goes by.
pub static PLUGINS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("../../plugins/suite/names")
        .split_whitespace()
        .collect()
});

/// Fills a folder like /opt/cni/bin: the suite under each name.
pub fn install_suite(bin: &Path) {
    std::fs::create_dir_all(bin).expect("bin folder");
    let suite = program("cni-suite");
    for name in PLUGINS.iter() {
        symlink(&suite, bin.join(name)).expect("link");
    }
}
