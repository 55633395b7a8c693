//! The machine's whole disk: this machine's own tools with their libraries, the kernel's modules, our programs.

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
const APPLETS: &[&str] = &[
    "mount", "insmod", "ls", "cat", "echo", "grep", "sed", "awk", "head", "tail", "sort", "xargs",
    "cut", "tr", "touch", "mkdir", "rm", "sleep", "poweroff", "true", "wc", "ln", "cp", "mv",
    "chmod", "env", "uname",
];

/// Builds it for a command; the finished file. The command's output and exit code go to the console.
pub fn build(folder: &Path, kernel: &Kernel, command: &str) -> PathBuf {
    let root = folder.join("root");
    for place in [
        "bin", "proc", "sys", "dev", "run", "opt", "var/lib", "etc", "tmp", "modules", "usr/lib",
        "root",
    ] {
        fs::create_dir_all(root.join(place)).expect("folder");
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
    copy_program(&root, Path::new("/bin/busybox"), "busybox");
    for tool in TOOLS {
        let found = shell(
            folder,
            &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}"),
        );
        copy_program(&root, Path::new(found.trim()), tool);
    }
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("applet");
    }
    for (name, target) in [
        ("sh", "dash"),
        ("iptables", "xtables-nft-multi"),
        ("ip6tables", "xtables-nft-multi"),
        ("iptables-save", "xtables-nft-multi"),
        ("ip6tables-save", "xtables-nft-multi"),
        ("iptables-restore", "xtables-nft-multi"),
        ("ip6tables-restore", "xtables-nft-multi"),
    ] {
        symlink(target, root.join("bin").join(name)).expect("link");
    }
    shell(
        &root,
        "cp -rL /usr/lib/*/xtables usr/lib/xtables 2>/dev/null || true",
    );
    for name in ["cni-suite", "cnitool", "flanneld"] {
        copy_program(&root, &binaries::program(name), name);
    }
    copy_program(&root, &scenarios(), "scenarios");
    shell(&root, "strip bin/scenarios");
    let mut init = String::from(
        "#!/bin/dash\nexport PATH=/bin BIN_DIR=/bin XTABLES_LIBDIR=/usr/lib/xtables\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\nmkdir -p /dev/shm\nmount -t tmpfs shm /dev/shm\nmount -t tmpfs tmp /tmp\n",
    );
    for (number, file) in kernel.files().iter().enumerate() {
        fs::copy(file, root.join(format!("modules/{number}.ko"))).expect("module");
        init.push_str(&format!("insmod /modules/{number}.ko\n"));
    }
    init.push_str(&format!("{command}\necho \"EXIT:$?\"\npoweroff -f\n"));
    fs::write(root.join("init"), init).expect("init");
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("init");
    shell(
        &root,
        "find . | cpio -o -H newc --quiet | zstd -q -3 -f -o ../initrd",
    );
    folder.join("initrd")
}

/// The scenarios' own program: the newest beside this one.
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
        .expect("the scenarios are built: run the whole of `make test`")
}

/// A program and the libraries that it is linked with.
fn copy_program(root: &Path, from: &Path, name: &str) {
    fs::copy(from, root.join("bin").join(name))
        .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    // ldd fails for a static program, which needs nothing
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
