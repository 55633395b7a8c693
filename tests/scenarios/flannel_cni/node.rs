//! A node with the suite and a lease.

use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tests::{Cni, Host, Outcome, Pod, binaries::BIN};

pub(super) const SUBNET_ENV: &str = "/run/flannel/subnet.env";
pub(super) const DUAL: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\n\
    FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// A plugin that records its input and fails if a file `/run/fail-VERB` exists.
const RECORDER: &str = "#!/bin/sh
cat >/run/recorded-$CNI_COMMAND
echo $CNI_COMMAND >>/run/recorded
[ ! -e /run/fail-$CNI_COMMAND ] || { echo '{\"code\": 107, \"msg\": \"requested\"}'; exit 1; }
[ $CNI_COMMAND != ADD ] || printf '{ \"cniVersion\":\"1.1.0\" }'
";

pub(super) struct Node {
    pub host: Host,
}

impl Node {
    /// With the lease of [`DUAL`].
    pub(super) fn new() -> Node {
        let node = Node {
            host: Host::with_suite("node"),
        };
        node.write(SUBNET_ENV, DUAL);
        node.write(&format!("{BIN}/recorder"), RECORDER);
        node.host.run(|| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(format!("{BIN}/recorder"), mode).expect("mode");
        });
        node
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        self.host.run(|| {
            fs::create_dir_all(Path::new(file).parent().expect("folder")).expect("folder");
            fs::write(file, text).expect("file");
        });
    }

    pub(super) fn read(&self, file: &str) -> String {
        self.host
            .run(|| fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}")))
    }

    pub(super) fn remove(&self, file: &str) {
        self.host.run(|| fs::remove_file(file).expect("remove"));
    }

    /// A call for container `id`, whose namespace has the same name.
    pub(super) fn cni(&self, id: &str) -> Cni {
        Cni::new(BIN, id, &format!("/run/netns/{id}"))
    }

    #[track_caller]
    pub(super) fn call(&self, verb: &str, id: &str, conf: &Value) -> Outcome {
        self.cni(id)
            .call(&self.host, verb, "flannel", &conf.to_string())
    }

    /// Attaches a pod; returns it with the result.
    #[track_caller]
    pub(super) fn attach(&self, id: &str, conf: &Value) -> (Pod<'_>, Value) {
        let pod = self.host.pod(id);
        let result = self.call("ADD", id, conf).ok().json();
        (pod, result)
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let names = self.host.sh(&format!("ls {dir} 2>/dev/null || true"));
        names.lines().map(str::to_owned).collect()
    }

    pub(super) fn states(&self) -> Vec<String> {
        self.list("/var/lib/cni/flannel")
    }

    /// The reserved addresses.
    pub(super) fn reservations(&self) -> Vec<String> {
        let mut names = self.list("/var/lib/cni/networks/cbr0");
        names.retain(|name| name.parse::<std::net::IpAddr>().is_ok());
        names
    }

    pub(super) fn veths(&self) -> usize {
        self.host.sh("ip -o link show type veth").lines().count()
    }

    #[track_caller]
    pub(super) fn assert_clean(&self) {
        assert_eq!(self.states(), [""; 0]);
        assert_eq!(self.reservations(), [""; 0]);
        assert_eq!(self.veths(), 0);
    }

    /// The last input of the recorder for a verb.
    #[track_caller]
    pub(super) fn recorded(&self, verb: &str) -> String {
        self.read(&format!("/run/recorded-{verb}"))
    }

    /// The verbs that the recorder got since the last time.
    pub(super) fn verbs(&self) -> Vec<String> {
        let verbs = self
            .host
            .sh("cat /run/recorded 2>/dev/null; rm -f /run/recorded");
        verbs.lines().map(str::to_owned).collect()
    }
}

/// The stock configuration of a version, with `more` keys.
pub(super) fn conf(version: &str, more: Value) -> Value {
    let mut conf = json!({
        "cniVersion": version, "name": "cbr0", "type": "flannel",
        "delegate": { "hairpinMode": true, "isDefaultGateway": true },
    });
    let keys = more.as_object().expect("object");
    for (key, value) in keys {
        conf[key] = value.clone();
    }
    conf
}

/// As [`conf`], with the recorder as delegate.
pub(super) fn recorder(version: &str, more: Value) -> Value {
    let mut conf = conf(version, more);
    conf["delegate"] = json!({ "type": "recorder" });
    conf
}
