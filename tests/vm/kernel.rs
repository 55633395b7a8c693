//! Debian's cloud kernel, fetched once into the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A kernel and its modules.
pub struct Kernel {
    /// vmlinuz
    pub image: PathBuf,
    /// lib/modules/VERSION
    pub modules: PathBuf,
    /// as `uname -r` says it
    pub version: String,
}

/// What the scenarios need of it, each with what it depends on.
const MODULES: &[&str] = &[
    "bridge",
    "veth",
    "8021q",
    "vxlan",
    "dummy",
    "br_netfilter",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_inet",
    "nft_compat",
    "xt_comment",
    "xt_MASQUERADE",
    "xt_mark",
    "xt_multiport",
    "xt_addrtype",
    "xt_conntrack",
    "nf_conntrack_netlink",
    "ifb",
    "sch_tbf",
    "sch_ingress",
    "cls_u32",
    "act_mirred",
    "tun",
];

impl Kernel {
    /// Downloads and unpacks it unless `folder` has it already.
    pub fn fetch(folder: &Path) -> Kernel {
        if !folder.join("boot").exists() {
            let new = folder.with_extension("new");
            fs::create_dir_all(&new).expect("folder");
            shell(
                &new,
                "apt-get download -q $(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')",
            );
            shell(&new, "dpkg -x *.deb . && rm *.deb");
            fs::rename(&new, folder).expect("kernel in place");
        }
        let version = shell(folder, "ls lib/modules").trim().to_owned();
        let modules = folder.join("lib/modules").join(&version);
        if !modules.join("modules.dep").exists() {
            shell(folder, &format!("depmod -b . {version}"));
        }
        Kernel {
            image: folder.join(format!("boot/vmlinuz-{version}")),
            modules,
            version,
        }
    }

    /// The modules' files in an order that they can be loaded in.
    pub fn files(&self) -> Vec<PathBuf> {
        let root = self.modules.ancestors().nth(3).expect("root");
        let mut files = Vec::new();
        for module in MODULES {
            let command = format!("modprobe -d . -S {} --show-depends {module}", self.version);
            for line in shell(root, &command).lines() {
                let Some(file) = line
                    .strip_prefix("insmod ")
                    .and_then(|rest| rest.split_whitespace().next())
                else {
                    continue;
                };
                let file = root.join(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files
    }
}

/// Runs a command in a folder; its stdout. Panics if it fails.
#[track_caller]
pub fn shell(folder: &Path, command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .output()
        .expect("sh");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{command}`: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
