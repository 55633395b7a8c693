//! `flanneld install-cni`, `install-conf` and `uninstall-cni` on a node whose runtime and pods go
//! on working.

mod killed;
mod refused;
mod running;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};
use tests::{Host, binaries, peers, peers::GO_PLUGINS, scenario};

const BIN: &str = binaries::BIN;
const NET_D: &str = "/etc/cni/net.d";
const CONF_LIST: &str = "/etc/cni/net.d/10-flannel.conflist";
/// The ConfigMap's file, as upstream's manifest mounts it.
const CNI_CONF: &str = "/etc/kube-flannel/cni-conf.json";
const SHIPPED: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");

/// A node whose plugins came with the distribution, and whose `flannel` and configuration are Go
/// flannel's.
struct Node(Host);

impl Node {
    fn new() -> Node {
        let host = Host::new("node");
        host.sh("mkdir -p /run/etc /run/work && mount -t overlay overlay \
                 -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work /etc \
                 && mkdir -p /etc/cni && mount -t tmpfs tmpfs /etc/cni");
        host.sh(&format!("mkdir -p {BIN} {NET_D}"));
        for name in ["bridge", "host-local", "dhcp", "flannel"] {
            host.write(&format!("{BIN}/{name}"), &format!("the node's {name}"));
        }
        host.sh(&format!("chmod 755 {BIN}/*"));
        host.write(CONF_LIST, "{\"name\":\"cbr0\"}");
        host.write(CNI_CONF, SHIPPED);
        Node(host)
    }

    fn flanneld(&self, arguments: &str) -> Output {
        let mut command = Command::new(binaries::program("flanneld"));
        command.args(arguments.split_whitespace());
        self.0.run(|| command.output().expect("flanneld"))
    }

    /// stdout of a command that succeeds.
    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        let output = self.flanneld(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// stderr of a command that fails.
    #[track_caller]
    fn refused(&self, arguments: &str) -> String {
        self.exits_with(1, arguments)
    }

    /// stderr of a command whose arguments cannot be used.
    #[track_caller]
    fn misused(&self, arguments: &str) -> String {
        self.exits_with(2, arguments)
    }

    #[track_caller]
    fn exits_with(&self, code: i32, arguments: &str) -> String {
        let output = self.flanneld(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What a program sees in the two folders: permission bits and content by path.
    fn files(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        self.0.run(|| {
            let read = |folder: &str| {
                let Ok(entries) = fs::read_dir(folder) else {
                    return Vec::new();
                };
                let file = |entry: std::io::Result<fs::DirEntry>| {
                    let path = entry.expect("entry").path();
                    let mode = fs::metadata(&path).expect("mode").permissions().mode();
                    let content = fs::read(&path).expect("content");
                    (
                        path.to_string_lossy().into_owned(),
                        (mode & 0o7777, content),
                    )
                };
                entries.map(file).collect()
            };
            [BIN, NET_D].into_iter().flat_map(read).collect()
        })
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let files = self.files();
        let names = files.keys().map(Path::new);
        names
            .filter(|path| path.parent() == Some(Path::new(folder)))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect()
    }
}

#[scenario]
fn the_nodes_other_plugins_stay_and_uninstall_restores_flannel() {
    let node = Node::new();
    let before = node.files();
    let printed = node.ok("install-cni");
    assert_eq!(
        printed,
        "/opt/cni/bin/bridge (left: of another origin)\n\
         /opt/cni/bin/host-local (left: of another origin)\n\
         /opt/cni/bin/portmap (installed)\n\
         /opt/cni/bin/loopback (installed)\n\
         /opt/cni/bin/flannel (installed; what was there is /opt/cni/bin/flannel.before-flanneld)\n"
    );
    let suite = fs::read(binaries::program("cni-suite")).expect("suite");
    let files = node.files();
    for name in ["flannel", "portmap", "loopback"] {
        assert!(
            files[&format!("{BIN}/{name}")] == (0o755, suite.clone()),
            "{name}"
        );
    }
    for name in ["bridge", "host-local", "dhcp"] {
        let path = format!("{BIN}/{name}");
        assert!(files[&path] == before[&path], "{name}");
    }
    let version = node
        .0
        .sh(&format!("CNI_COMMAND=VERSION {BIN}/flannel < /dev/null"));
    assert!(version.contains("supportedVersions"), "{version}");

    // a pod of the DaemonSet starts again
    let again = node.ok("install-cni");
    assert!(
        again.ends_with("/opt/cni/bin/flannel (unchanged)\n"),
        "{again}"
    );
    node.ok("install-cni -plugins=all -replace=all");
    assert_eq!(node.names(BIN).len(), 10 + 3 + 1, "{:?}", node.names(BIN));
    let back = node.ok("uninstall-cni");
    assert!(
        back.contains("/opt/cni/bin/flannel (what was there is back)\n"),
        "{back}"
    );
    assert!(back.contains("/opt/cni/bin/portmap (removed)\n"), "{back}");
    assert!(node.files() == before, "{:?}", node.names(BIN));
    let nothing = node.ok("uninstall-cni");
    assert!(nothing.starts_with("nothing of install-cni"), "{nothing}");
}

#[scenario]
fn install_conf_takes_upstreams_arguments_and_is_undone() {
    let node = Node::new();
    let before = node.files();
    // a ConfigMap's file is a link to the file of its present version
    node.0.sh(
        "cd /etc/kube-flannel && mkdir ..1 && mv cni-conf.json ..1 && chmod 640 ..1/cni-conf.json \
               && ln -s ..1 ..data && ln -s ..data/cni-conf.json cni-conf.json",
    );
    node.0.sh(&format!(
        "ln -s {} /run/install-conf",
        binaries::program("flanneld").display()
    ));
    let printed = node
        .0
        .sh(&format!("/run/install-conf {CNI_CONF} {CONF_LIST}"));
    assert_eq!(
        printed,
        format!("{CONF_LIST} (installed; what was there is {CONF_LIST}.before-flanneld)\n")
    );
    assert!(node.files()[CONF_LIST] == (0o640, SHIPPED.as_bytes().to_vec()));
    let inode = || node.0.sh(&format!("stat -c %i {CONF_LIST}"));
    let first = inode();
    node.ok(&format!("install-conf {CNI_CONF} {CONF_LIST}"));
    assert_eq!(inode(), first, "the same content is not written again");
    node.0.write("/etc/kube-flannel/new.json", "{}");
    node.ok(&format!(
        "install-conf /etc/kube-flannel/new.json {CONF_LIST}"
    ));
    assert_ne!(inode(), first, "a new file took the name");
    // a runtime loads what ends in .conf, .conflist or .json
    let loaded = node.names(NET_D).into_iter().filter(|name| {
        [".conf", ".conflist", ".json"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    assert_eq!(loaded.collect::<Vec<_>>(), ["10-flannel.conflist"]);
    node.ok("uninstall-cni");
    assert!(node.files() == before, "{:?}", node.names(NET_D));
}

#[scenario]
fn upstreams_init_container_takes_over_and_back() {
    let node = Node::new();
    node.ok("install-cni -plugins=all -replace=all");
    let ours = node.files();
    // upstream's manifest is applied again: its init container writes into the present file
    node.0.write("/run/image/flannel", "Go's flannel, newer");
    node.0
        .sh(&format!("cp -f /run/image/flannel {BIN}/flannel"));
    for (path, file) in node.files() {
        assert!(
            path.ends_with("/flannel") || ours[&path] == file,
            "{path} was changed"
        );
    }
    // ours is applied again, and removed
    node.ok("install-cni");
    node.ok("uninstall-cni");
    let (_, flannel) = &node.files()[&format!("{BIN}/flannel")];
    assert_eq!(flannel, b"Go's flannel, newer");
    let (_, bridge) = &node.files()[&format!("{BIN}/bridge")];
    assert_eq!(bridge, b"the node's bridge");
}

#[scenario]
fn the_plugins_of_make_install_come_back() {
    let node = Node::new();
    let suite = binaries::program("cni-suite");
    node.0.sh(&format!(
        "cp {} {BIN}/ && ln -sf cni-suite {BIN}/flannel",
        suite.display()
    ));
    node.ok("install-cni");
    node.0.sh(&format!("test ! -L {BIN}/flannel"));
    node.ok("uninstall-cni");
    assert_eq!(node.0.sh(&format!("readlink {BIN}/flannel")), "cni-suite\n");
}

#[scenario(unless = peers::without_go_plugins)]
fn our_flannel_runs_the_nodes_delegates() {
    let node = Node::new();
    for name in ["bridge", "host-local"] {
        node.0.sh(&format!("cp {GO_PLUGINS}/{name} {BIN}/{name}"));
    }
    node.ok("install-cni");
    node.ok(&format!("install-conf {CNI_CONF} {CONF_LIST}"));
    node.0.write(
        "/run/flannel/subnet.env",
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
    );
    let pod = node.0.pod("a");
    let cni = tests::Cni::new(BIN, "a", &pod.path());
    let config = r#"{"cniVersion":"0.3.1","name":"cbr0","type":"flannel"}"#;
    let result = cni.call(&node.0, "ADD", "flannel", config).ok().json();
    assert!(
        result["ips"][0]["address"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.244.7."))
    );
    cni.call(&node.0, "DEL", "flannel", config).ok();
}
