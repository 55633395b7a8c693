//! Debian's cloud kernel, downloaded once into the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A kernel and its modules.
pub(crate) struct Kernel {
    /// The path of vmlinuz.
    pub image: PathBuf,
    /// The folder lib/modules/VERSION.
    pub modules: PathBuf,
    /// The version as `uname -r` prints it.
    pub version: String,
}

const DOWNLOAD: &str = "apt-get download -qq $(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')";

/// The modules that the scenarios need; modprobe adds their dependencies.
const MODULES: &[&str] = &[
    // links
    "bridge",
    "veth",
    "8021q",
    "vxlan",
    "dummy",
    "ifb",
    "tun",
    "ipip",
    "ip6_tunnel",
    "wireguard",
    // packet filters
    "br_netfilter",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_inet",
    "nft_compat",
    "nft_reject_inet",
    "nft_limit",
    "nft_log",
    "iptable_nat",
    "iptable_filter",
    "iptable_mangle",
    "ip6table_nat",
    "ip6table_filter",
    "ip6table_mangle",
    "xt_comment",
    "xt_MASQUERADE",
    "xt_mark",
    "xt_policy",
    "xt_multiport",
    "xt_addrtype",
    "xt_conntrack",
    "xt_tcpudp",
    "xt_TCPMSS",
    "nf_conntrack_netlink",
    // traffic control
    "sch_tbf",
    "sch_ingress",
    "sch_netem",
    "cls_u32",
    "cls_matchall",
    "act_mirred",
    // IPsec, and what its algorithms are made of
    "xfrm_user",
    "xfrm_interface",
    "esp4",
    "esp6",
    "xfrm4_tunnel",
    "authenc",
    "echainiv",
    "seqiv",
    "gcm",
    "ctr",
    "cbc",
    "hmac",
    "ghash_generic",
    "sha256_generic",
    "sha512_generic",
    "aes_generic",
    "drbg",
    "chacha20poly1305",
];

impl Kernel {
    /// Downloads and unpacks the kernel unless `folder` has it. The error is the reason to skip.
    pub(crate) fn fetch(folder: &Path) -> Result<Kernel, String> {
        if !folder.join("boot").exists() {
            let new = folder.with_extension("new");
            let failed = |error: std::io::Error| format!("{}: {error}", new.display());
            fs::create_dir_all(&new).map_err(failed)?;
            // package lists may be missing, or name a version that the archive has dropped
            try_shell(
                &new,
                &format!("{DOWNLOAD} || {{ apt-get -qq update && {DOWNLOAD}; }}"),
            )?;
            try_shell(&new, "dpkg -x *.deb . && rm *.deb")?;
            fs::rename(&new, folder).map_err(failed)?;
        }
        let version = shell(folder, "ls lib/modules").trim().to_owned();
        let modules = folder.join("lib/modules").join(&version);
        if !modules.join("modules.dep").exists() {
            shell(folder, &format!("depmod -b . {version}"));
        }
        Ok(Kernel {
            image: folder.join(format!("boot/vmlinuz-{version}")),
            modules,
            version,
        })
    }

    /// The module files, each after its dependencies.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
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
pub(crate) fn shell(folder: &Path, command: &str) -> String {
    try_shell(folder, command).unwrap_or_else(|error| panic!("{error}"))
}

fn try_shell(folder: &Path, command: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .output();
    let output = output.map_err(|error| format!("sh: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(stdout),
        false => Err(format!(
            "`{command}`: {stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
