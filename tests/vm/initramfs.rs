//! The initramfs: this machine's tools with their libraries, the kernel's modules, the programs
//! under test and the scenarios.

use crate::kernel::{Kernel, shell};
use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tests::{binaries, peers};

const TOOLS: &[&str] = &[
    "dash",
    "ip",
    "bridge",
    "tc",
    "ss",
    "nft",
    "wg",
    "swanctl",
    "ping",
    "ethtool",
    "conntrack",
    "curl",
    "iperf3",
    "unshare",
    "nsenter",
    "find",
    "seq",
    "sysctl",
    "xtables-nft-multi",
    "xtables-legacy-multi",
    "strace",
    "etcd",
    "etcdctl",
];
/// Programs that charon is, and starts.
const STRONGSWAN: &str = "/usr/lib/ipsec";
/// What charon reads.
const STRONGSWAN_SETTINGS: &[&str] = &["strongswan.conf", "strongswan.d"];
/// The programs of `tests/peers` that scenarios run here.
const GO_PEERS: &[&str] = &["flannel", "wireguard-go"];
const IPTABLES: &[&str] = &[
    "iptables",
    "ip6tables",
    "iptables-save",
    "ip6tables-save",
    "iptables-restore",
    "ip6tables-restore",
];
const FOLDERS: &[&str] = &[
    "bin", "proc", "sys", "dev", "run", "opt", "srv", "var/lib", "var/log", "etc", "tmp",
    "modules", "usr/lib", "root", "peers",
];
/// The beginning of /init. A new namespace gets no tunl0, ip6tnl0 and the like.
const INIT: &str = "\
#!/bin/dash
export PATH=/bin HOME=/root BIN_DIR=/bin GO_PEERS=/peers XTABLES_LIBDIR=/usr/lib/xtables
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mkdir -p /dev/shm /dev/net
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
ip link set lo up
echo 2 > /proc/sys/net/core/fb_tunnels_only_for_init_net
";

/// What runs once the modules are loaded: it switches on for good what the kernel switches on with
/// its first user and off with its last one, by a change of its code (static keys). QEMU 7.2 may go
/// on to run the code as it was in the middle of such a change, for ever (seen with LOCAL_IN of
/// IPv4).
const STATIC_KEYS: &str = "\
hook() {
family=$1; shift
nft add table $family keep
for hook; do nft \"add chain $family keep $hook { type filter hook $hook priority 0; }\"; done
}
hook inet prerouting input forward output postrouting
hook bridge prerouting input forward output postrouting
hook arp input output
tc qdisc add dev lo clsact
ip link add keep4 type vxlan id 1 local 127.0.0.1 dev lo dstport 4790
ip link add keep6 type vxlan id 1 local ::1 dev lo dstport 4791
ip link set keep4 up
ip link set keep6 up
ping -q -i 3600 127.0.0.1 > /dev/null &
";

/// Builds an initramfs that runs a script; the path of the file. The output of the script and
/// `EXIT:` with the exit code of its last command go to the console.
pub(crate) fn build(folder: &Path, kernel: &Kernel, script: &str) -> PathBuf {
    let root = folder.join("root");
    lay_out(&root);
    add_tools(folder, &root);
    for name in ["cni-suite", "cnitool", "flanneld"] {
        copy_program(&root, &binaries::program(name), name);
    }
    copy_program(&root, &scenarios(), "scenarios");
    add_strongswan(&root);
    add_go_peers(&root);
    // programs of a debug build are large
    shell(
        &root,
        "strip bin/scenarios bin/cni-suite bin/cnitool bin/flanneld",
    );
    let load_modules = add_modules(&root, kernel);
    let init =
        format!("{INIT}{load_modules}{STATIC_KEYS}{script}\necho \"EXIT:$?\"\npoweroff -f\n");
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
        ("var/run", "../run"),
    ] {
        symlink(target, root.join(link)).expect("link");
    }
}

/// Adds this machine's tools, and links for the names that busybox and xtables-*-multi implement.
fn add_tools(folder: &Path, root: &Path) {
    copy_program(root, Path::new("/bin/busybox"), "busybox");
    for tool in TOOLS {
        let find = format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}");
        copy_program(root, Path::new(shell(folder, &find).trim()), tool);
    }
    let legacy = |name: &str| name.replacen("tables", "tables-legacy", 1);
    for name in IPTABLES {
        add_link(root, name, "xtables-nft-multi");
        add_link(
            root,
            &name.replacen("tables", "tables-nft", 1),
            "xtables-nft-multi",
        );
        add_link(root, &legacy(name), "xtables-legacy-multi");
    }
    add_link(root, "sh", "dash");
    for applet in shell(folder, "/bin/busybox --list").lines() {
        if !root.join("bin").join(applet).exists() {
            add_link(root, applet, "busybox");
        }
    }
    shell(
        root,
        "cp -rL /usr/lib/*/xtables usr/lib/xtables 2>/dev/null || true",
    );
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    fs::write(root.join("etc/passwd"), users).expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("group");
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").expect("hosts");
}

fn add_link(root: &Path, name: &str, target: &str) {
    symlink(target, root.join("bin").join(name)).expect("link");
}

/// Adds charon, the IKE daemon, with its plugins and settings.
fn add_strongswan(root: &Path) {
    let add = |file: &Path| {
        copy_libraries(root, file);
        let place = root.join(file.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(place.parent().expect("folder")).expect("folder");
        fs::copy(file, place).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    };
    add(&Path::new(STRONGSWAN).join("charon"));
    let plugins = Path::new(STRONGSWAN).join("plugins");
    for entry in fs::read_dir(plugins).expect("strongSwan's plugins") {
        add(&entry.expect("entry").path());
    }
    for name in STRONGSWAN_SETTINGS {
        shell(root, &format!("cp -rL /etc/{name} etc/{name}"));
    }
}

/// Adds the Go programs that are built; scenarios skip what needs the others.
fn add_go_peers(root: &Path) {
    for peer in GO_PEERS {
        let Ok(folder) = peers::built_from_go(peer) else {
            continue;
        };
        let place = root.join("peers").join(peer);
        fs::create_dir_all(&place).expect("folder");
        for entry in fs::read_dir(folder).expect("a Go peer's folder") {
            let file = entry.expect("entry").path();
            copy_libraries(root, &file);
            fs::copy(&file, place.join(file.file_name().expect("name"))).expect("a Go peer");
        }
    }
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

/// Copies a program to /bin, and the libraries that it is linked with.
fn copy_program(root: &Path, from: &Path, name: &str) {
    fs::copy(from, root.join("bin").join(name))
        .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    copy_libraries(root, from);
}

/// Copies the libraries that a file is linked with.
fn copy_libraries(root: &Path, file: &Path) {
    // ldd fails for a static program
    let libraries = shell(root, &format!("ldd {} 2>/dev/null || true", file.display()));
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
        if !place.exists() {
            fs::create_dir_all(place.parent().expect("folder")).expect("folder");
            fs::copy(library, place).expect("library");
        }
    }
}
