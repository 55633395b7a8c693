//! The lifecycle of one pod, from ADD to the second DEL, recorded step by step.

use super::normalize::normalize;
use serde_json::{Value, json};
use tests::{Cni, Host, Outcome, Pod};

/// A chain of plugins and how it is called.
pub(super) struct Lifecycle {
    /// The name of the case, and in the list of known differences.
    pub name: &'static str,
    pub version: &'static str,
    pub plugins: Vec<(&'static str, Value)>,
    pub args: &'static str,
}

/// A recorded step.
pub(super) struct Step {
    pub label: String,
    pub text: String,
}

/// Commands that show the state of the pod.
const POD: &[(&str, &str)] = &[
    ("links", "ip -d -o link show dev $IF 2>/dev/null"),
    (
        "addresses",
        "ip -o address show scope global; ip -o address show dev lo",
    ),
    ("routes", "ip route; ip -6 route | grep -v ^fe80"),
    (
        "sysctls",
        "cd /proc/sys/net && grep . ipv6/conf/$IF/accept_dad ipv6/conf/$IF/disable_ipv6 ipv4/conf/$IF/arp_notify 2>&1",
    ),
];
/// Commands that show the state of the host.
const HOST: &[(&str, &str)] = &[
    (
        "bridge",
        "ip -d -o link show type bridge | grep -o 'cni0\\|mtu [0-9]*\\|promiscuity [0-9]*\\|vlan_filtering [0-9]'; ip -o address show dev cni0 scope global",
    ),
    (
        "ports",
        "bridge -d link show | grep -o 'master.*\\|hairpin [a-z]*\\|isolated [a-z]*\\|learning [a-z]*'",
    ),
    ("routes", "ip route; ip -6 route | grep -v ^fe80"),
    (
        "forwarding",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/cni0/accept_ra /proc/sys/net/ipv4/conf/cni0/route_localnet",
    ),
    ("iptables", "iptables-save; ip6tables-save"),
    ("queues", "tc qdisc show | grep -v noqueue"),
    (
        "files",
        "cd /var/lib/cni 2>/dev/null && find . -type f ! -path '*/.host-local/*' -printf '%p %s\\n' | sort",
    ),
];

impl Lifecycle {
    /// Runs the lifecycle with the plugins of that folder; its steps.
    pub(super) fn run(&self, path: &str) -> Vec<Step> {
        let host = Host::with_suite("node");
        let pod = host.pod("pod");
        let mut record = Record {
            pod: &pod,
            steps: Vec::new(),
            ifname: self.ifname(),
        };
        let cni = Cni::new(path, "c1", &pod.path())
            .with("CNI_ARGS", self.args)
            .with("CNI_IFNAME", self.ifname());

        let result = self.add(&host, &cni, &mut record, "ADD");
        record.look("after ADD");
        self.check(&host, &cni, &mut record, "CHECK", result.as_ref());
        self.add(&host, &cni, &mut record, "ADD again");
        for (label, previous) in [("DEL", result.as_ref()), ("DEL again", None)] {
            self.del(&host, &cni, &mut record, label, previous);
        }
        record.look("after DEL");
        if self.version >= "0.4.0" {
            self.check(&host, &cni, &mut record, "CHECK after DEL", result.as_ref());
        }
        pod.delete();
        let gone = cni.with("CNI_NETNS", "");
        self.del(&host, &gone, &mut record, "DEL without namespace", None);
        record.steps
    }

    fn ifname(&self) -> &'static str {
        if self.plugins[0].0 == "loopback" {
            "lo"
        } else {
            "eth0"
        }
    }

    fn config(&self, plugin: &str, keys: &Value, previous: Option<&Value>) -> String {
        let mut config = keys.clone();
        config["name"] = "net".into();
        config["type"] = plugin.into();
        config["cniVersion"] = self.version.into();
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        config.to_string()
    }

    /// ADD of each plugin until one fails; the last result.
    fn add(&self, host: &Host, cni: &Cni, record: &mut Record, label: &str) -> Option<Value> {
        let mut previous = None;
        for (plugin, keys) in &self.plugins {
            let outcome = cni.call(
                host,
                "ADD",
                plugin,
                &self.config(plugin, keys, previous.as_ref()),
            );
            record.outcome(&format!("{label}: {plugin}"), &outcome);
            if outcome.code != 0 {
                return None;
            }
            previous = Some(outcome.json());
        }
        previous
    }

    fn check(
        &self,
        host: &Host,
        cni: &Cni,
        record: &mut Record,
        label: &str,
        result: Option<&Value>,
    ) {
        for (plugin, keys) in &self.plugins {
            let outcome = cni.call(host, "CHECK", plugin, &self.config(plugin, keys, result));
            record.outcome(&format!("{label}: {plugin}"), &outcome);
        }
    }

    fn del(
        &self,
        host: &Host,
        cni: &Cni,
        record: &mut Record,
        label: &str,
        result: Option<&Value>,
    ) {
        let result = result.filter(|_| self.version >= "0.4.0");
        for (plugin, keys) in self.plugins.iter().rev() {
            let outcome = cni.call(host, "DEL", plugin, &self.config(plugin, keys, result));
            record.outcome(&format!("{label}: {plugin}"), &outcome);
        }
    }
}

struct Record<'h> {
    pod: &'h Pod<'h>,
    steps: Vec<Step>,
    ifname: &'static str,
}

impl Record<'_> {
    fn outcome(&mut self, label: &str, outcome: &Outcome) {
        let printed = match serde_json::from_str::<Value>(&outcome.stdout) {
            // Since its version 1.2 the Go library sorts the keys of 1.0.0, which loopback prints
            // for every version, and omits an empty dns. Debian's plugins are older.
            Ok(mut json) if json["cniVersion"] == "1.0.0" || label.ends_with(": loopback") => {
                if json["dns"] == json!({}) {
                    json.as_object_mut().expect("object").remove("dns");
                }
                json.to_string()
            }
            _ => outcome.stdout.clone(),
        };
        self.push(label.to_owned(), &format!("{} {printed}", outcome.code));
    }

    fn look(&mut self, label: &str) {
        for (what, command) in POD {
            let command = command.replace("$IF", self.ifname);
            let shown = self.pod.try_sh(&command).stdout;
            self.push(
                format!("{label}: pod's {what}"),
                &String::from_utf8_lossy(&shown),
            );
        }
        for (what, command) in HOST {
            let shown = self.pod.host.try_sh(command).stdout;
            self.push(
                format!("{label}: host's {what}"),
                &String::from_utf8_lossy(&shown),
            );
        }
    }

    fn push(&mut self, label: String, text: &str) {
        self.steps.push(Step {
            label,
            text: normalize(text),
        });
    }
}
