//! A node, and a chain of plugins on it that strace can disturb.

use super::Step;
use serde_json::{Value, json};
use tests::{Cni, Host, Outcome, binaries};

pub const BIN: &str = "/opt/cni/bin";
/// The same plugins, executed by strace.
const TRACED: &str = "/opt/traced";
/// With `?`, since not every architecture has every one of them.
const CHANGING: &str = "?sendto,?sendmsg,?openat,?write,?pwrite64,?link,?linkat,?symlink,?symlinkat,?unlink,?unlinkat,?rename,\
    ?renameat,?renameat2,?mkdir,?mkdirat,?rmdir,?ftruncate,?utimensat,?setns,?unshare,?flock,?fsync,?fdatasync,?mount,?umount2,\
    ?clone,?clone3,?vfork,?execve";
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/48\n\
    FLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// Which plugins, and what holds their rules.
#[derive(Clone, Copy)]
pub struct Chain {
    pub plugins: &'static [&'static str],
    /// those of them that are disturbed in this chain
    pub disturbed: &'static [&'static str],
    /// the packet filter of masquerade and of host ports
    pub filter: &'static str,
}

pub struct Node {
    pub host: Host,
    chain: Chain,
}

impl Node {
    pub fn new(chain: Chain) -> Node {
        let host = Host::new("node");
        host.run(|| {
            binaries::install_suite(BIN.as_ref());
            std::fs::create_dir_all("/run/flannel").expect("folder");
            std::fs::write("/run/flannel/subnet.env", SUBNET_ENV).expect("subnet.env");
        });
        host.sh(&format!("mkdir {TRACED}"));
        for plugin in chain.plugins {
            // the dynamic linker's and the shell's calls are not the plugin's: they change nothing
            host.sh(&format!(
                "printf '#!/bin/sh\\nexec strace -f -o /run/trace -e trace={CHANGING} $INJECT {BIN}/{plugin}\\n' > {TRACED}/{plugin} \
                 && chmod +x {TRACED}/{plugin}"
            ));
        }
        Node { host, chain }
    }

    pub fn config(
        &self,
        plugin: &str,
        id: &str,
        previous: Option<&Value>,
        valid: Option<Value>,
    ) -> String {
        let mut config = match plugin {
            "flannel" => {
                json!({"delegate": {"hairpinMode": true, "isDefaultGateway": true, "ipMasqBackend": self.chain.filter}})
            }
            "tuning" => {
                json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}})
            }
            "bandwidth" => {
                json!({"ingressRate": 8_000_000, "ingressBurst": 80_000, "egressRate": 8_000_000, "egressBurst": 80_000})
            }
            "firewall" => json!({"backend": "iptables", "ingressPolicy": "same-bridge"}),
            _ => {
                json!({"backend": self.chain.filter, "capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": [
                {"hostPort": if id == "stays" { 8080 } else { 8081 }, "containerPort": 80, "protocol": "tcp"}]}})
            }
        };
        config["name"] = "cbr0".into();
        config["cniVersion"] = "1.1.0".into();
        config["type"] = plugin.into();
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        if let Some(valid) = valid {
            config["cni.dev/valid-attachments"] = valid;
        }
        config.to_string()
    }

    pub fn call(&self, verb: &str, plugin: &str, id: &str, previous: Option<&Value>) -> Outcome {
        Cni::new(BIN, id, &format!("/run/netns/{id}")).call(
            &self.host,
            verb,
            plugin,
            &self.config(plugin, id, previous, None),
        )
    }

    /// A pod that is attached.
    pub fn add(&self, id: &str) {
        self.host.pod(id);
        let mut previous = None;
        for plugin in self.chain.plugins {
            previous = Some(self.call("ADD", plugin, id, previous.as_ref()).ok().json());
        }
    }

    pub fn traced(
        &self,
        plugin: &str,
        id: &str,
        previous: Option<&Value>,
        inject: &str,
    ) -> Outcome {
        Cni::new(&format!("{TRACED}:{BIN}"), id, &format!("/run/netns/{id}"))
            .with("INJECT", inject)
            .call(
                &self.host,
                "ADD",
                plugin,
                &self.config(plugin, id, previous, None),
            )
    }

    pub fn del(&self) {
        self.del_of("dies");
    }

    pub fn del_of(&self, id: &str) {
        for plugin in self.chain.plugins.iter().rev() {
            self.call("DEL", plugin, id, None).ok();
        }
    }

    /// GC of every plugin, with the other pod as the only valid attachment.
    pub fn gc(&self) {
        for plugin in self.chain.plugins.iter().rev() {
            let valid = json!([{"containerID": "stays", "ifname": "eth0"}]);
            let config = self.config(plugin, "", None, Some(valid));
            Cni::new(BIN, "", "")
                .call(&self.host, "GC", plugin, &config)
                .ok();
        }
    }

    /// A namespace, and ADD for it by the plugins before this one; the last one's result.
    pub fn add_before(&self, plugin: &str) -> Option<Value> {
        self.host.sh("ip netns add dies");
        let earlier = self
            .chain
            .plugins
            .iter()
            .take_while(|earlier| **earlier != plugin);
        earlier.fold(None, |previous, earlier| {
            Some(
                self.call("ADD", earlier, "dies", previous.as_ref())
                    .ok()
                    .json(),
            )
        })
    }

    /// Panics with the difference unless the node is as it was.
    #[track_caller]
    pub fn assert_as(&self, before: &str, step: &Step) {
        let after = self.snapshot();
        let other = |one: &str, two: &str| -> Vec<String> {
            let lines = one.lines().filter(|line| !two.contains(line));
            lines.map(str::to_owned).collect()
        };
        assert!(
            before == after,
            "after {step:?}: left {:?}, lost {:?}\nas a whole:\n{after}\nbefore:\n{before}",
            other(&after, before),
            other(before, &after)
        );
    }

    /// Everything on the node that a plugin can have made, except what tells nothing of any pod: the last address that was given,
    /// host-local's own notes, and whether a rule that all pods share is there twice: iptables-save ends well with half a listing
    /// when it cannot read the rest, and then such a rule is made again.
    pub fn snapshot(&self) -> String {
        self.host.sh(
            "ip -br link | sed 's/ .*//' | sort; ip -br address show up; ip route; ip -6 route; nft -s list ruleset | uniq; \
             tc qdisc show; find /run/cni -type f 2>/dev/null; find /var/lib/cni -type f ! -path '*/.host-local/*' ! -name 'last_reserved_ip.*' -printf '%p %s\n' | sort",
        )
    }
}
