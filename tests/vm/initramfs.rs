//! The initramfs: this machine's tools with their libraries, the kernel's modules, the programs
//! under test and the scenarios.

use crate::kernel::{Kernel, shell};
use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tests::binaries;

const TOOLS: &[&str] = &[
    "dash",
    "ip",
    "bridge",
    "tc",
    "nft",
    "ping",
    "unshare",
    "nsenter",
    "find",
    "seq",
    "xtables-nft-multi",
    "strace",
];
const IPTABLES: &[&str] = &[
    "iptables",
    "ip6tables",
    "iptables-save",
    "ip6tables-save",
    "iptables-restore",
    "ip6tables-restore",
];
const FOLDERS: &[&str] = &[
    "bin", "proc", "sys", "dev", "run", "opt", "srv", "var/lib", "etc", "tmp", "modules",
    "usr/lib", "root",
];
/// The beginning of /init.
const INIT: &str = "\
#!/bin/dash
export PATH=/bin BIN_DIR=/bin XTABLES_LIBDIR=/usr/lib/xtables
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
";
const APPLETS: &[&str] = &[
    "mount", "insmod", "ls", "cat", "echo", "grep", "sed", "awk", "head", "tail", "sort", "xargs",
    "cut", "tr", "touch", "mkdir", "rm", "sleep", "poweroff", "true", "wc", "ln", "cp", "mv",
    "chmod", "env", "uname",
];

/// Builds an initramfs that runs `command`; the path of the file. The output of the command and
/// `EXIT:` with its exit code go to the console.
pub(crate) fn build(folder: &Path, kernel: &Kernel, command: &str) -> PathBuf {
    let root = folder.join("root");
    lay_out(&root);
    add_tools(folder, &root);
    for name in ["cni-suite", "cnitool", "flanneld"] {
        copy_program(&root, &binaries::program(name), name);
    }
    copy_program(&root, &scenarios(), "scenarios");
    shell(&root, "strip bin/scenarios");
    let load_modules = add_modules(&root, kernel);
    let init = format!("{INIT}{load_modules}{command}\necho \"EXIT:$?\"\npoweroff -f\n");
    fs::write(root.join("init"), init).expect("init");
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("init");
    shell(
        &root,
        "find . | cpio -o -H newc --quiet | zstd -q -3 -f -o ../initrd",
    );
    folder.join("initrd")
}

/// Creates the folders, and the links between those that Debian has merged.
fn lay_out(root: &Path) {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).expect("folder");
    }
    for (link, target) in [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        symlink(target, root.join(link)).expect("link");
    }
}

/// Adds this machine's tools, and links for the names that busybox and xtables-nft-multi implement.
fn add_tools(folder: &Path, root: &Path) {
    copy_program(root, Path::new("/bin/busybox"), "busybox");
    for tool in TOOLS {
        let find = format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}");
        copy_program(root, Path::new(shell(folder, &find).trim()), tool);
    }
    let applets = APPLETS.iter().map(|applet| (applet, "busybox"));
    let iptables = IPTABLES.iter().map(|name| (name, "xtables-nft-multi"));
    for (name, target) in applets.chain(iptables).chain([(&"sh", "dash")]) {
        symlink(target, root.join("bin").join(name)).expect("link");
    }
    shell(
        root,
        "cp -rL /usr/lib/*/xtables usr/lib/xtables 2>/dev/null || true",
    );
}

/// Adds the kernel's modules; the commands that load them.
fn add_modules(root: &Path, kernel: &Kernel) -> String {
    let mut commands = String::new();
    for (number, file) in kernel.files().iter().enumerate() {
        fs::copy(file, root.join(format!("modules/{number}.ko"))).expect("module");
        commands += &format!("insmod /modules/{number}.ko\n");
    }
    commands
}

/// The newest build of the scenarios, in the folder of this program.
fn scenarios() -> PathBuf {
    let own = env::current_exe().expect("own path");
    let built = |path: &PathBuf| {
        path.metadata()
            .and_then(|data| data.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let beside = fs::read_dir(own.parent().expect("folder")).expect("deps");
    let candidates = beside
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("scenarios-") && !name.contains('.')
        });
    candidates
        .max_by_key(built)
        .expect("the scenarios are not built: run `make test`")
}

/// Copies a program and the libraries that it is linked with.
fn copy_program(root: &Path, from: &Path, name: &str) {
    fs::copy(from, root.join("bin").join(name))
        .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    // ldd fails for a static program
    let libraries = shell(root, &format!("ldd {} 2>/dev/null || true", from.display()));
    for library in libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let place = root.join(
            library
                .trim_start_matches("/usr")
                .trim_start_matches('/')
                .replacen("lib", "usr/lib", 1),
        );
        fs::create_dir_all(place.parent().expect("folder")).expect("folder");
        fs::copy(library, place).expect("library");
    }
}
