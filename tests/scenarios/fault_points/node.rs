//! A node with a chain of plugins, which strace can inject faults into.

use super::Step;
use serde_json::{Value, json};
use tests::{
    Cni, Host, Outcome,
    binaries::BIN,
    trace::{TRACED, trace_plugin},
};

/// The system calls that are steps. `?`: not every architecture has each of them.
const CHANGING: &str = "?sendto,?sendmsg,?openat,?write,?pwrite64,?link,?linkat,?symlink,?symlinkat,?unlink,?unlinkat,?rename,\
    ?renameat,?renameat2,?mkdir,?mkdirat,?rmdir,?ftruncate,?utimensat,?setns,?unshare,?flock,?fsync,?fdatasync,?mount,?umount2,\
    ?clone,?clone3,?vfork,?execve";
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/48\n\
    FLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// A chain of plugins.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    pub plugins: &'static [&'static str],
    /// Those of them that faults are injected into.
    pub faulty: &'static [&'static str],
    /// The back end of masquerade and of portmap: iptables or nftables.
    pub filter: &'static str,
}

pub(super) struct Node {
    pub host: Host,
    chain: Chain,
}

impl Node {
    pub(super) fn new(chain: Chain) -> Node {
        let host = Host::with_suite("node");
        host.write("/run/flannel/subnet.env", SUBNET_ENV);
        for plugin in chain.plugins {
            trace_plugin(&host, plugin, &format!("-e trace={CHANGING} $INJECT"));
        }
        Node { host, chain }
    }

    pub(super) fn config(
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

    pub(super) fn call(
        &self,
        verb: &str,
        plugin: &str,
        id: &str,
        previous: Option<&Value>,
    ) -> Outcome {
        Cni::new(BIN, id, &format!("/run/netns/{id}")).call(
            &self.host,
            verb,
            plugin,
            &self.config(plugin, id, previous, None),
        )
    }

    /// Attaches a pod to the network.
    pub(super) fn add(&self, id: &str) {
        self.host.pod(id);
        let mut previous = None;
        for plugin in self.chain.plugins {
            previous = Some(self.call("ADD", plugin, id, previous.as_ref()).ok().json());
        }
    }

    pub(super) fn traced(
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

    pub(super) fn del(&self) {
        self.del_of("dies");
    }

    pub(super) fn del_of(&self, id: &str) {
        for plugin in self.chain.plugins.iter().rev() {
            self.call("DEL", plugin, id, None).ok();
        }
    }

    /// GC of every plugin, with the pod `stays` as the only valid attachment.
    pub(super) fn gc(&self) {
        for plugin in self.chain.plugins.iter().rev() {
            let valid = json!([{"containerID": "stays", "ifname": "eth0"}]);
            let config = self.config(plugin, "", None, Some(valid));
            Cni::new(BIN, "", "")
                .call(&self.host, "GC", plugin, &config)
                .ok();
        }
    }

    /// Creates the namespace of the pod `dies` and calls ADD of the plugins before `plugin`; the
    /// last result.
    pub(super) fn add_before(&self, plugin: &str) -> Option<Value> {
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

    /// Panics with the difference unless the node is in the state `before`.
    #[track_caller]
    pub(super) fn assert_as(&self, before: &str, step: &Step) {
        let after = self.snapshot();
        let other = |one: &str, two: &str| -> Vec<String> {
            let lines = one.lines().filter(|line| !two.contains(line));
            lines.map(str::to_owned).collect()
        };
        assert!(
            before == after,
            "after {step:?}: added {:?}, missing {:?}\nafter:\n{after}\nbefore:\n{before}",
            other(&after, before),
            other(before, &after)
        );
    }

    /// Everything on the node that a plugin can create, except what belongs to no pod: the last
    /// reserved address, host-local's index, and duplicates of a rule that all pods share.
    /// (iptables-save succeeds with half a listing when it cannot read the rest, and the rule is
    /// then added again.)
    pub(super) fn snapshot(&self) -> String {
        self.host.sh(
            "ip -br link | sed 's/ .*//' | sort; ip -br address show up; ip route; ip -6 route; nft -s list ruleset | uniq; \
             tc qdisc show; find /run/cni -type f 2>/dev/null; find /var/lib/cni -type f ! -path '*/.host-local/*' ! -name 'last_reserved_ip.*' -printf '%p %s\n' | sort",
        )
    }
}
