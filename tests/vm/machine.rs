//! A virtual machine that boots, runs one command and powers off.

use crate::{initramfs, kernel::Kernel};
use std::{
    path::Path,
    process::{Command, Stdio},
};

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

/// Runs a command in a new virtual machine; the console's output. Panics unless it succeeded.
pub(crate) fn run(command: &str) -> String {
    let kernel = kernel().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("folder");
    let initrd = initramfs::build(folder.path(), &kernel, command);
    let arguments = "-nodefaults -no-reboot -display none -serial stdio -m 2048 -accel tcg,thread=multi -cpu max -smp 2";
    let output = Command::new("timeout")
        .args(["300", "qemu-system-x86_64"])
        .args(arguments.split(' '))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("qemu");
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(
        console.lines().any(|line| line == "EXIT:0"),
        "{console}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    console
}
