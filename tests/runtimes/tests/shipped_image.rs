//! The image that `make image` writes: its content, and the programs in it under containerd.

use crate::podman;
use runtimes::{
    containerd::{Containerd, Cri},
    host_container::{Spec, import},
    machine,
};
use serde_json::Value;
use std::{env, fs, process::Command, time::Duration};
use tests::{binaries, pki::Authority, process::eventually, scenario, shell::sh};

const NAME: &str = "localhost/flannel:test";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The capabilities of the DaemonSet's containers.
pub(super) const DAEMON: &[&str] = &["NET_ADMIN", "NET_RAW"];
const NONE: &[&str] = &[];
const SHIPPED: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");
const NET_CONF: &str =
    r#"{"Network":"10.245.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

/// The reason to skip where there is no image.
pub(super) fn no_image() -> Option<String> {
    match env::var_os("IMAGE_ARCHIVE") {
        Some(_) => machine::missing(),
        None => Some("IMAGE_ARCHIVE names no image: `make test` sets it".into()),
    }
}

fn archive() -> String {
    env::var("IMAGE_ARCHIVE").expect("IMAGE_ARCHIVE")
}

/// Unpacks the archive, and its layer below `root`.
fn unpack(to: &str) -> Value {
    sh(&format!(
        "mkdir -p {to}/root && tar -xf {} -C {to}",
        archive()
    ));
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("digest").replace(':', "/");
        format!("{to}/blobs/{digest}")
    };
    let json =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(path).expect(path)).expect(path) };
    let index = json(&format!("{to}/index.json"));
    let manifest = json(&blob(&index["manifests"][0]["digest"]));
    for layer in manifest["layers"].as_array().expect("layers") {
        sh(&format!("tar -xzf {} -C {to}/root", blob(&layer["digest"])));
    }
    json(&blob(&manifest["config"]["digest"]))
}

#[scenario(unless = no_image)]
fn content_is_exactly_what_is_needed() {
    let config = unpack("/run/unpacked");
    let files =
        sh("cd /run/unpacked/root && find . -mindepth 1 -printf '%M %U:%G %P %l\n' | sort -k3");
    assert_eq!(
        files,
        "drwxr-xr-x 0:0 etc \n\
         drwxr-xr-x 0:0 etc/ssl \n\
         drwxr-xr-x 0:0 etc/ssl/certs \n\
         -rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt \n\
         drwxr-xr-x 0:0 opt \n\
         drwxr-xr-x 0:0 opt/bin \n\
         -rwxr-xr-x 0:0 opt/bin/cni-suite \n\
         -rwxr-xr-x 0:0 opt/bin/flanneld \n\
         lrwxrwxrwx 0:0 opt/bin/install-conf flanneld\n\
         drwxr-xr-x 0:0 usr \n\
         drwxr-xr-x 0:0 usr/share \n\
         drwxr-xr-x 0:0 usr/share/sbom \n\
         -rw-r--r-- 0:0 usr/share/sbom/flannel.cdx.json \n"
    );
    assert_eq!(config["config"]["Entrypoint"][0], "/opt/bin/flanneld");
    let labels = &config["config"]["Labels"];
    for label in ["title", "version", "revision", "licenses", "created"] {
        let value = labels[format!("org.opencontainers.image.{label}")].as_str();
        assert!(
            value.is_some_and(|value| !value.is_empty()),
            "{label}: {labels}"
        );
    }
    let certificates = sh("grep -c BEGIN /run/unpacked/root/etc/ssl/certs/ca-certificates.crt");
    assert!(
        certificates.trim().parse::<u32>().expect("count") > 100,
        "{certificates}"
    );
    let same = |program: &str| {
        let ours = fs::read(binaries::program(program)).expect(program);
        ours == fs::read(format!("/run/unpacked/root/opt/bin/{program}")).expect(program)
    };
    assert!(same("flanneld") && same("cni-suite"), "those of this build");
}

#[scenario(unless = no_image)]
fn two_assemblies_are_equal() {
    let flanneld = binaries::program("flanneld");
    let bin = flanneld.parent().expect("folder").display();
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let assemble = |out: &str, mask: &str| {
        let script = format!(
            "cd {ROOT} && umask {mask} && scripts/image {out} {NAME} {target}={bin} && sha256sum < {out}"
        );
        let output = sh(&script);
        output.lines().last().expect("digest").to_owned()
    };
    let first = assemble("/run/first.tar", "022");
    assert_eq!(assemble("/run/second.tar", "077"), first);
}

#[scenario(unless = no_image)]
fn the_sbom_names_every_crate_that_left_its_path_in_a_program() {
    unpack("/run/unpacked");
    let sbom = fs::read("/run/unpacked/root/usr/share/sbom/flannel.cdx.json").expect("SBOM");
    let sbom: Value = serde_json::from_slice(&sbom).expect("JSON");
    assert_eq!(
        (&sbom["bomFormat"], &sbom["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let components = sbom["components"].as_array().expect("components");
    let listed: Vec<_> = components
        .iter()
        .map(|component| {
            format!(
                "{}-{}",
                text(&component["name"]),
                text(&component["version"])
            )
        })
        .collect();
    for program in ["flanneld", "cni-suite"] {
        // /cargo/registry/src/index.crates.io-0123456789abcdef/serde-1.0.0/src/lib.rs
        let paths = sh(&format!(
            "grep -aoE '/cargo/registry/src/[^/]+/[A-Za-z0-9_.+-]+/' /run/unpacked/root/opt/bin/{program} \
             | cut -d/ -f6 | sort -u"
        ));
        let crates: Vec<_> = paths.lines().collect();
        assert!(crates.len() > 5, "{program}: {crates:?}");
        let missing = crates
            .iter()
            .find(|name| !listed.iter().any(|known| known == *name));
        assert_eq!(missing, None, "{program}");
    }
    for component in components {
        assert!(
            component["licenses"][0]["expression"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        let name = text(&component["name"]);
        let is_registry = text(&component["purl"]).starts_with("pkg:cargo/");
        assert_eq!(component["hashes"].is_array(), is_registry, "{name}");
    }
}

#[scenario(unless = no_image)]
fn programs_contain_no_path_of_the_machine_that_built_them() {
    unpack("/run/unpacked");
    let home = env::var("HOME").expect("HOME");
    for path in [
        format!("{home}/.cargo"),
        fs::canonicalize(ROOT).expect("root").display().to_string(),
    ] {
        let found = Command::new("grep")
            .args(["-rlF", &path, "/run/unpacked/root/opt/bin"])
            .output()
            .expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{path}");
    }
}

pub(super) fn with_image() -> (Containerd, Cri, String) {
    machine::install(machine::ours());
    let containerd = Containerd::start();
    containerd.import();
    let imported = import(&archive());
    let name = imported
        .split_whitespace()
        .find(|word| word.starts_with("localhost/"));
    let name = name
        .unwrap_or_else(|| panic!("no name: {imported}"))
        .to_owned();
    (containerd, Cri::connect(), name)
}

#[scenario(unless = no_image)]
fn podman_loads_and_runs_it() {
    podman::configure();
    let loaded = podman::podman(&format!("load -q -i {}", archive()));
    let name = loaded.split_whitespace().last().expect("name");
    assert!(name.starts_with("localhost/flannel:"), "{loaded}");
    let version = podman::podman(&format!(
        "run --rm --network host --read-only {name} --version 2>&1"
    ));
    assert_eq!(version.trim(), "v0.1.0");
}

#[scenario(unless = no_image)]
fn install_commands_run_without_a_shell() {
    let (containerd, mut cri, image) = with_image();
    // an archive's owner: without capabilities root may not make a hard link to the file
    sh(
        "mkdir -p /run/host/bin /run/host/net.d /run/host/conf && echo theirs > /run/host/bin/flannel \
         && chown 1001:1001 /run/host/bin/flannel",
    );
    fs::write("/run/host/conf/cni-conf.json", SHIPPED).expect("conf list");
    let spec = Spec {
        name: "version",
        image: &image,
        command: &[],
        args: &["--version"],
        mounts: &[],
        capabilities: DAEMON,
    };
    let version = cri.run_on_host(&spec);
    assert_eq!((version.code, version.output.as_str()), (0, "v0.1.0\n"));

    let bin = [("/run/host/bin", "/opt/cni/bin")];
    let installed = cri.run_on_host(&Spec {
        name: "install-cni-plugin",
        command: &["/opt/bin/flanneld"],
        args: &["install-cni"],
        mounts: &bin,
        capabilities: NONE,
        ..spec
    });
    assert_eq!(installed.code, 0, "{}", installed.output);
    let loopback = sh("CNI_COMMAND=VERSION /run/host/bin/loopback < /dev/null");
    assert!(loopback.contains("supportedVersions"), "{loopback}");

    let conf = [
        ("/run/host/net.d", "/etc/cni/net.d"),
        ("/run/host/conf", "/etc/kube-flannel/"),
    ];
    let installed = cri.run_on_host(&Spec {
        name: "install-cni",
        command: &["/opt/bin/install-conf"],
        args: &[
            "/etc/kube-flannel/cni-conf.json",
            "/etc/cni/net.d/10-flannel.conflist",
        ],
        mounts: &conf,
        capabilities: NONE,
        ..spec
    });
    assert_eq!(installed.code, 0, "{}", installed.output);
    let conf_list = fs::read_to_string("/run/host/net.d/10-flannel.conflist").expect("conf list");
    assert_eq!(conf_list, SHIPPED);

    let undone = cri.run_on_host(&Spec {
        name: "uninstall-cni",
        command: &["/opt/bin/flanneld"],
        args: &["uninstall-cni"],
        mounts: &[bin[0], conf[0]],
        capabilities: NONE,
        ..spec
    });
    assert_eq!(undone.code, 0, "{}", undone.output);
    assert_eq!(
        sh("ls -A /run/host/bin /run/host/net.d"),
        "/run/host/bin:\nflannel\n\n/run/host/net.d:\n"
    );
    assert_eq!(sh("cat /run/host/bin/flannel"), "theirs\n");
    containerd.stop();
}

/// Arguments of a flanneld that serves leases or asks for them, with mutual TLS.
fn arguments(leases: &'static str) -> [&'static str; 5] {
    [
        leases,
        "-remote-keyfile=/pki/node.key",
        "-remote-certfile=/pki/node.crt",
        "-remote-cafile=/pki/ca.crt",
        "-iface=underlay",
    ]
}

#[scenario(unless = no_image)]
fn flanneld_makes_the_network_and_finds_its_server_by_name_over_tls() {
    let (containerd, mut cri, image) = with_image();
    sh(
        "ip link add underlay type bridge && ip addr add 10.66.0.1/24 dev underlay && ip link set underlay up",
    );
    sh(
        "mkdir -p /run/host/flannel /run/host/state /run/host/kube-flannel && echo '127.0.0.1 leases.test' > /run/host/hosts",
    );
    fs::write("/run/host/kube-flannel/net-conf.json", NET_CONF).expect("net-conf.json");
    fs::create_dir_all("/run/host/pki").expect("folder");
    let authority = Authority::new("/run/host/pki".as_ref());
    authority.issue("node", &["leases.test"]);
    let mounts = [
        ("/run/host/pki", "/pki"),
        ("/run/host/flannel", "/run/flannel"),
        ("/run/host/state", "/var/lib/flannel"),
        ("/run/host/kube-flannel", "/etc/kube-flannel/"),
        ("/run/host/hosts", "/etc/hosts"),
    ];
    let spec = Spec {
        name: "kube-flannel",
        image: &image,
        command: &[],
        args: &arguments("-listen=127.0.0.1:8888"),
        mounts: &mounts,
        capabilities: DAEMON,
    };
    let daemon = cri.start_on_host(&spec).expect("flanneld");
    eventually("flannel.1", Duration::from_secs(20), || {
        sh("ip -o link show").contains("flannel.1").then_some(())
    });
    eventually("subnet.env", Duration::from_secs(20), || {
        fs::read_to_string("/run/host/flannel/subnet.env").ok()
    });
    let device = sh("ip -d link show flannel.1");
    assert!(
        device.contains("vxlan id 1 local 10.66.0.1 dev underlay"),
        "{device}"
    );

    // a client: by a name of /etc/hosts that the certificate proves
    let [leases @ .., _] = arguments("-remote=leases.test:8888");
    let mut export = vec!["lease", "export"];
    export.extend(leases);
    let exported = cri.run_on_host(&Spec {
        name: "export",
        args: &export,
        ..spec
    });
    assert_eq!(exported.code, 0, "{}", exported.output);
    assert!(exported.output.contains("10.245."), "{}", exported.output);
    assert_eq!(cri.stop_on_host(&daemon), 0, "{}", daemon.output());
    cri.remove_from_host(&daemon);

    let cleaned = cri.run_on_host(&Spec {
        name: "cleanup",
        args: &["cleanup"],
        ..spec
    });
    assert_eq!(cleaned.code, 0, "{}", cleaned.output);
    assert!(
        !sh("ip -o link show").contains("flannel.1"),
        "{}",
        cleaned.output
    );
    sh("ip link delete underlay");
    containerd.stop();
}
