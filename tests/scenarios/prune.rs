//! `cni-suite prune`: what is left of containers that no longer exist goes, and what pods need
//! stays.

use serde_json::{Value, json};
use std::{fs, process::Command};
use tests::{
    Cni, Host, Pod,
    binaries::{BIN, PLUGINS, program},
    peers::{GO_PLUGINS, without_go_plugins},
    scenario,
};

const STATES: &str = "/var/lib/cni/flannel";
const NETWORKS: &str = "/var/lib/cni/networks";
const GO: &str = "1.0.0";

/// Container ids differ among the cases: these share their processes.
struct Node {
    host: Host,
    /// Of masquerade.
    backend: &'static str,
}

impl Node {
    /// With the subnet 10.91.N.0/24. Another case has another one, since the kernel gives the inode
    /// of a namespace that ended to the next one, which may be of another case.
    fn new(n: u8) -> Node {
        let host = Host::with_suite("node");
        let env = format!(
            "FLANNEL_NETWORK=10.91.0.0/16\nFLANNEL_SUBNET=10.91.{n}.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
        host.write("/run/flannel/subnet.env", &env);
        let backend = "nftables";
        Node { host, backend }
    }

    fn flannel(&self) -> Value {
        json!({
            "cniVersion": GO, "name": "cbr0", "type": "flannel",
            "delegate": {"isDefaultGateway": true, "ipMasqBackend": self.backend},
        })
    }

    fn cni(&self, id: &str, path: &str) -> Cni {
        Cni::new(path, id, &format!("/run/netns/{id}"))
    }

    /// ADD of flannel, which masquerades, and of portmap with one host port.
    #[track_caller]
    fn attach(&self, id: &str, host_port: u16) -> Pod<'_> {
        let pod = self.host.pod(id);
        self.add(id, host_port);
        pod
    }

    #[track_caller]
    fn add(&self, id: &str, host_port: u16) -> String {
        let result = self.cni(id, BIN);
        let result = result.call(&self.host, "ADD", "flannel", &self.flannel().to_string());
        let result = result.ok().json();
        let portmap = json!({
            "cniVersion": GO, "name": "cbr0", "type": "portmap", "backend": "nftables",
            "runtimeConfig": {"portMappings": [
                {"hostPort": host_port, "containerPort": 80, "protocol": "tcp"}
            ]},
            "prevResult": result,
        });
        let cni = self.cni(id, BIN);
        cni.call(&self.host, "ADD", "portmap", &portmap.to_string())
            .ok();
        let address = result["ips"][0]["address"].as_str().expect("address");
        address.trim_end_matches("/24").to_owned()
    }

    /// What Go's flannel and the plugins that it calls do. They know nothing of our host ports.
    #[track_caller]
    fn del_as_go(&self, id: &str) {
        let file = format!("{STATES}/{id}");
        let delegate = self.host.sh(&format!("cat {file} && rm {file}"));
        let go = self.cni(id, GO_PLUGINS);
        go.call(&self.host, "DEL", "bridge", &delegate).ok();
    }

    #[track_caller]
    fn del(&self, id: &str) {
        for plugin in ["portmap", "flannel"] {
            let mut config = self.flannel();
            config["type"] = plugin.into();
            let cni = self.cni(id, BIN);
            cni.call(&self.host, "DEL", plugin, &config.to_string())
                .ok();
        }
    }

    #[track_caller]
    fn prune(&self, flags: &str) -> String {
        self.host
            .sh(&format!("{} prune {flags}", program("cni-suite").display()))
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let names = self.host.sh(&format!("ls -A {folder} 2>/dev/null || true"));
        names.lines().map(str::to_owned).collect()
    }

    /// The reserved addresses.
    fn reserved(&self) -> Vec<String> {
        let mut names = self.list(&format!("{NETWORKS}/cbr0"));
        names.retain(|name| name.starts_with("10."));
        names
    }

    /// The addresses that host ports lead to, and those that are masqueraded.
    fn rules(&self) -> String {
        self.host.sh(
            "{ nft list map ip cni_hostport hostports; nft list chain inet cni_plugins_masquerade masq_checks; } \
             2>/dev/null | grep -o '10[.]91[.][0-9.]* *[.] 80\\|saddr 10[.]91[.][0-9.]*' | sort || true",
        )
    }
}

/// The way back to Go: its DEL removes one of the two names of our state file.
#[scenario(unless = without_go_plugins)]
fn what_gos_del_leaves_is_removed_and_pods_keep_theirs() {
    let node = Node {
        // that of Debian's release
        backend: "iptables",
        ..Node::new(3)
    };
    let (gone, pod) = (node.attach("gone", 8081), node.attach("pod", 8082));
    node.del_as_go("gone");
    gone.delete();
    assert_eq!(node.list(STATES), ["gone@eth0", "pod", "pod@eth0"]);
    let report = node.prune("");
    for line in [
        "removed container gone, interface eth0, network cbr0 (state file): it has no address any more",
        "removed host ports to 10.91.3.2: no network namespace has the address",
    ] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    assert!(
        !report.contains("left") && !report.contains("FAILED"),
        "{report}"
    );
    assert_eq!(node.list(STATES), ["pod", "pod@eth0"]);
    assert_eq!(node.reserved(), ["10.91.3.3"]);
    assert_eq!(node.rules(), "10.91.3.3 . 80\n");
    pod.sh("ip addr show dev eth0 | grep -q 10.91.3.3");
    assert_eq!(
        node.prune(""),
        "nothing is left of containers that no longer exist\n"
    );
    node.del("pod");
    assert!(
        node.prune("")
            .contains("removed host-local's index of network cbr0")
    );
    assert_eq!(node.list(STATES), [""; 0]);
    assert_eq!(node.list(NETWORKS), ["cbr0"]);
}

/// A runtime that lost its state calls no DEL.
#[scenario]
fn what_a_runtime_forgot_is_removed() {
    let node = Node::new(4);
    let pods =
        ["lost", "running"].map(|id| node.attach(id, if id == "lost" { 8081 } else { 8082 }));
    let before = node.rules();
    assert_eq!(before.lines().count(), 4, "{before}");
    assert_eq!(
        node.prune(""),
        "nothing is left of containers that no longer exist\n"
    );
    assert_eq!(node.rules(), before);
    pods[0].delete();
    let line = "container lost, interface eth0, network cbr0 (10.91.4.2, state file): ";
    let report = node.prune("-dry-run");
    assert!(report.contains(&format!("would remove {line}")), "{report}");
    assert_eq!(node.rules(), before);
    let report = node.prune("");
    assert!(report.contains(&format!("removed {line}")), "{report}");
    assert_eq!(node.reserved(), ["10.91.4.3"]);
    assert_eq!(node.list(STATES), ["running", "running@eth0"]);
    assert_eq!(node.rules(), "10.91.4.3 . 80\nsaddr 10.91.4.3\n");
    pods[1].sh("ip addr show dev eth0 | grep -q 10.91.4.3");
    // the address is given again, and the pod that runs can be deleted
    node.host
        .sh(&format!("rm {NETWORKS}/cbr0/last_reserved_ip.0"));
    let _next = node.host.pod("next");
    assert_eq!(node.add("next", 8081), "10.91.4.2");
    for id in ["next", "running"] {
        node.del(id);
    }
    assert_eq!((node.rules().as_str(), node.reserved().len()), ("", 0));
}

/// Reservations of Go's plugin name no namespace; from inside a container, none can be seen.
#[scenario(unless = without_go_plugins)]
fn what_cannot_be_known_is_left_with_the_reason() {
    let node = Node::new(5);
    let ipam = json!({
        "cniVersion": GO, "name": "go", "type": "bridge",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.92.0.0/24"}]]},
    });
    let go = node.cni("of-go", GO_PLUGINS);
    go.call(&node.host, "ADD", "host-local", &ipam.to_string())
        .ok();
    node.host.write(&format!("{STATES}/broken@eth0"), "{");
    let pods =
        ["first", "second"].map(|id| node.attach(id, if id == "first" { 8081 } else { 8082 }));
    let inside = format!(
        "unshare --mount --pid --fork --mount-proc sh -c \
         'umount /run/netns/first /run/netns/second && mount -t tmpfs tmpfs /run && {} prune'",
        program("cni-suite").display()
    );
    let before = (node.rules(), node.reserved(), node.list(STATES));
    let report = node.host.sh(&inside);
    for line in [
        "left addresses of network cbr0 (2): this process may be in other namespaces than their containers",
        "left addresses of network go: another plugin made them, and their namespace is unknown",
        "left host ports to 10.91.5.2: /proc does not show the network namespace that veth",
        "left state file /var/lib/cni/flannel/broken@eth0: it is damaged",
    ] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    assert!(!report.contains("removed"), "{report}");
    assert_eq!((node.rules(), node.reserved(), node.list(STATES)), before);
    drop(pods);
}

/// A pod that runs keeps the name that Go's plugin reads; our DEL takes that one, too.
#[scenario]
fn uninstall_leaves_what_gos_plugins_need() {
    let node = Node::new(6);
    let _pods = ["old", "kept"].map(|id| node.attach(id, if id == "old" { 8081 } else { 8082 }));
    node.host.sh("ip netns del old");
    let links: Vec<_> = PLUGINS
        .iter()
        .map(|name| format!("ln -sf cni-suite {BIN}/{name}"))
        .collect();
    let suite = program("cni-suite").display().to_string();
    node.host
        .sh(&format!("cp {suite} {BIN}/ && {}", links.join(" && ")));
    let mut uninstall = Command::new("scripts/uninstall");
    uninstall
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .envs([("CNI_BIN_DIR", BIN), ("CNI_DATA_DIR", "/var/lib/cni")])
        .envs([
            ("CNI_CONF_DIR", "/run/conf"),
            ("PREFIX", "/run/usr"),
            ("UNIT_DIR", "/run/units"),
            ("SYSCONF_DIR", "/run/etc"),
        ])
        .env("PLUGINS", PLUGINS.join(" "));
    let output = node
        .host
        .run(|| uninstall.output().expect("scripts/uninstall"));
    let says = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "removed container old, interface eth0, network cbr0 (10.91.6.2, state file)",
        "removed host-local's index of network cbr0",
        "removed the second names of 1 state files",
        "/opt/cni/bin/cni-suite (removed)",
    ] {
        assert!(says.contains(line), "{line} in\n{says}");
    }
    assert_eq!(node.list(STATES), ["kept"]);
    assert_eq!(node.list(NETWORKS), ["cbr0"]);
    assert_eq!(node.reserved(), ["10.91.6.3"]);
    assert_eq!(node.list(BIN), [""; 0]);
    node.host.run(|| {
        fs::remove_dir(BIN).expect("bin");
        tests::binaries::install_suite(BIN.as_ref());
    });
    node.del("kept");
    assert_eq!((node.rules().as_str(), node.reserved().len()), ("", 0));
    assert_eq!(node.list(STATES), [""; 0]);
}

/// What a lost pod left keeps no table of the plugins; the copies of the image have the command.
#[scenario]
fn flanneld_cleanup_prunes_first() {
    let node = Node::new(7);
    node.attach("forgotten", 8081).delete();
    let report = node
        .host
        .sh(&format!("{} cleanup -yes", program("flanneld").display()));
    for line in [
        "removed container forgotten, interface eth0, network cbr0",
        "removed nftables table ip cni_hostport",
        "removed nftables table inet cni_plugins_masquerade",
        "removed bridge cni0",
    ] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    assert_eq!(
        node.host.sh(&format!("{BIN}/flannel prune 2>&1")),
        "nothing is left of containers that no longer exist\n"
    );
    assert_eq!(node.host.sh("nft list ruleset"), "");
}
