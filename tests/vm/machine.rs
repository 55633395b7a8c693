//! A virtual machine that boots, runs a script and powers off.

use crate::{console::Console, initramfs, kernel::Kernel};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const MEMORY: &str = "2048";

/// The reason to skip where no virtual machine can run.
pub(crate) fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the virtual machine is built for x86_64 only".into());
    }
    let needed = [
        ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
        ("/usr/share/seabios/bios-256k.bin", "seabios"),
        ("/usr/bin/cpio", "cpio"),
        ("/usr/bin/zstd", "zstd"),
        ("/usr/bin/apt-get", "apt"),
        ("/usr/sbin/modprobe", "kmod"),
        ("/usr/bin/wg", "wireguard-tools"),
        ("/usr/sbin/ethtool", "ethtool"),
        ("/usr/bin/iperf3", "iperf3"),
        ("/usr/bin/etcd", "etcd-server"),
        ("/usr/lib/ipsec/charon", "strongswan-charon"),
        ("/usr/sbin/swanctl", "strongswan-swanctl"),
    ];
    let lacking = needed.iter().find(|(file, _)| !Path::new(file).exists());
    if let Some((file, package)) = lacking {
        return Some(format!("{file} is missing: apt-get install {package}"));
    }
    kernel()
        .err()
        .map(|error| format!("cannot fetch Debian's cloud kernel: {error}"))
}

fn kernel() -> Result<Kernel, String> {
    Kernel::fetch(&tests::binaries::folder().join("../vm-kernel"))
}

/// The file of a machine's console.
fn console_file(name: &str) -> PathBuf {
    let folder = tests::binaries::folder().join("../vm");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let folder = folder.canonicalize().expect("folder");
    folder.join(format!("{name}.log"))
}

/// Runs a script of dash in a new virtual machine, for at most `seconds`; its console.
pub(crate) fn run(name: &str, seconds: u32, script: &str) -> Console {
    let kernel = kernel().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("folder");
    let initrd = initramfs::build(folder.path(), &kernel, script);
    let console = console_file(name);
    fs::write(&console, "").unwrap_or_else(|error| panic!("{}: {error}", console.display()));
    let status = Command::new("timeout")
        .args(["--kill-after=5", &seconds.to_string(), "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", MEMORY])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable",
        ])
        .stdin(Stdio::null())
        .status()
        .expect("timeout");
    let console = Console::read(console);
    assert!(
        status.success(),
        "the virtual machine ended with {status} (124: after {seconds} s); the end of {}:\n{}",
        console.path.display(),
        console.end()
    );
    console
}
