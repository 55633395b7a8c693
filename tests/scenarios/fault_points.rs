//! ADD is killed at every step, and then DEL alone, or GC alone, leaves the node as it was.
//!
//! strace kills it: at each of its system calls that can change anything outside of the process, one after the other. A kill in
//! between is the kill at the next one of these.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use tests::{Case, Cni, Host, Outcome, binaries, case};

const BIN: &str = "/opt/cni/bin";
/// The same plugins, executed by strace.
const TRACED: &str = "/opt/traced";
/// With `?`, since not every architecture has every one of them.
const CHANGING: &str = "?sendto,?sendmsg,?openat,?write,?pwrite64,?link,?linkat,?symlink,?symlinkat,?unlink,?unlinkat,?rename,\
    ?renameat,?renameat2,?mkdir,?mkdirat,?rmdir,?ftruncate,?utimensat,?setns,?unshare,?flock,?fsync,?fdatasync,?mount,?umount2,\
    ?clone,?clone3,?vfork,?execve";
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/48\n\
    FLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// The cases.
pub fn cases() -> Vec<Case> {
    let cases = [
        case("fault_points/del", || every_step(NFTABLES, Cleaning::Del)),
        case("fault_points/del-without-namespace", || {
            every_step(NFTABLES, Cleaning::DelWithoutNamespace)
        }),
        case("fault_points/gc", || every_step(NFTABLES, Cleaning::Gc)),
        case("fault_points/first-add", || {
            every_step(NFTABLES, Cleaning::FirstAdd)
        }),
        case("fault_points/iptables-del", || {
            every_step(IPTABLES, Cleaning::DelWithoutNamespace)
        }),
        case("fault_points/iptables-gc", || {
            every_step(IPTABLES, Cleaning::Gc)
        }),
        case("fault_points/companions-del", || {
            every_step(COMPANIONS, Cleaning::Del)
        }),
        case("fault_points/companions-del-without-namespace", || {
            every_step(COMPANIONS, Cleaning::DelWithoutNamespace)
        }),
        case("fault_points/companions-gc", || {
            every_step(COMPANIONS, Cleaning::Gc)
        }),
    ];
    let reason = cannot_trace();
    cases.map(|case| case.unless(reason.clone())).into()
}

fn cannot_trace() -> Option<String> {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    match traced {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace may not trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("strace (Debian package strace): {error}")),
    }
}

/// Which plugins, and what holds their rules.
#[derive(Clone, Copy)]
struct Chain {
    plugins: &'static [&'static str],
    /// those of them that are killed in this chain
    killed: &'static [&'static str],
    /// the packet filter of masquerade and of host ports
    filter: &'static str,
}

const NFTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    killed: &["flannel", "portmap"],
    filter: "nftables",
};
/// With processes of their own, any of which is killed in its turn.
const IPTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    killed: &["flannel", "portmap"],
    filter: "iptables",
};
/// What clusters chain besides.
const COMPANIONS: Chain = Chain {
    plugins: &["flannel", "tuning", "bandwidth", "firewall"],
    killed: &["tuning", "bandwidth", "firewall"],
    filter: "nftables",
};

/// What is done after the kill.
#[derive(Clone, Copy, PartialEq)]
enum Cleaning {
    /// DEL as a runtime makes it
    Del,
    /// the namespace is taken away before
    DelWithoutNamespace,
    /// GC, with the other pod as the only valid attachment
    Gc,
    /// DEL, on a node that never had a pod; then a next ADD works
    FirstAdd,
}

/// A plugin of the chain, and the system call of its ADD that kills it: the how-manieth of that name in one process.
type Step = (&'static str, String, usize);

fn every_step(chain: Chain, cleaning: Cleaning) {
    let steps = Arc::new(steps(chain, cleaning));
    let (next, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (steps, next, killed) =
                (Arc::clone(&steps), Arc::clone(&next), Arc::clone(&killed));
            thread::spawn(move || {
                let node = Node::new(chain);
                if cleaning != Cleaning::FirstAdd {
                    node.add("stays");
                }
                while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if node.killed_at(step, cleaning) {
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    }
    // a call more or less is made where the store has seen a kill before
    let killed = killed.load(Ordering::Relaxed);
    assert!(
        killed * 10 >= steps.len() * 9,
        "only {killed} of {} steps were hit",
        steps.len()
    );
}

/// Every step of an ADD that nobody disturbs.
fn steps(chain: Chain, cleaning: Cleaning) -> Vec<Step> {
    let node = Node::new(chain);
    if cleaning != Cleaning::FirstAdd {
        node.add("stays");
    }
    node.host.pod("dies");
    let mut steps = Vec::new();
    let mut previous = None;
    for plugin in chain.plugins.iter().copied() {
        let result = node.traced(plugin, "dies", previous.as_ref(), "").ok();
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let trace = node.host.sh("cat /run/trace");
        for line in trace.lines() {
            // 123 openat(AT_FDCWD, ...
            let reads_only = line.contains("openat(") && !line.contains("O_CREAT");
            let Some((pid, name)) =
                (line.split_once('(')).and_then(|(call, _)| call.split_once(' '))
            else {
                continue;
            };
            let name = name.trim();
            let count = counts.entry((pid, name)).or_default();
            *count += 1;
            let step = (plugin, name.to_owned(), *count);
            if !reads_only && chain.killed.contains(&plugin) && !steps.contains(&step) {
                steps.push(step);
            }
        }
        previous = Some(result.json());
    }
    assert!(
        steps.len() > 30,
        "{} steps are too few to be true",
        steps.len()
    );
    steps
}

struct Node {
    host: Host,
    chain: Chain,
}

impl Node {
    fn new(chain: Chain) -> Node {
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

    fn config(
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

    fn call(&self, verb: &str, plugin: &str, id: &str, previous: Option<&Value>) -> Outcome {
        Cni::new(BIN, id, &format!("/run/netns/{id}")).call(
            &self.host,
            verb,
            plugin,
            &self.config(plugin, id, previous, None),
        )
    }

    /// A pod that is attached.
    fn add(&self, id: &str) {
        self.host.pod(id);
        let mut previous = None;
        for plugin in self.chain.plugins {
            previous = Some(self.call("ADD", plugin, id, previous.as_ref()).ok().json());
        }
    }

    fn traced(&self, plugin: &str, id: &str, previous: Option<&Value>, inject: &str) -> Outcome {
        Cni::new(&format!("{TRACED}:{BIN}"), id, &format!("/run/netns/{id}"))
            .with("INJECT", inject)
            .call(
                &self.host,
                "ADD",
                plugin,
                &self.config(plugin, id, previous, None),
            )
    }

    /// One ADD that is killed, what cleans up after it, and the look whether it did. False if the ADD came to its end.
    fn killed_at(&self, step: &Step, cleaning: Cleaning) -> bool {
        let (plugin, name, count) = step;
        let before = self.snapshot();
        self.host.sh("ip netns add dies");
        let mut previous = None;
        for earlier in self
            .chain
            .plugins
            .iter()
            .take_while(|earlier| *earlier != plugin)
        {
            previous = Some(
                self.call("ADD", earlier, "dies", previous.as_ref())
                    .ok()
                    .json(),
            );
        }
        let inject = format!("-e inject={name}:signal=SIGKILL:when={count}");
        let killed = self.traced(plugin, "dies", previous.as_ref(), &inject).code != 0;
        match cleaning {
            Cleaning::DelWithoutNamespace => {
                self.host.sh("ip netns del dies");
                self.del();
            }
            Cleaning::Del | Cleaning::FirstAdd => {
                self.del();
                let left = self
                    .host
                    .sh("ip -n dies -br link show | grep -v ^lo || true");
                assert_eq!(left, "", "in the pod after {step:?}");
                self.host.sh("ip netns del dies");
            }
            Cleaning::Gc => {
                for plugin in self.chain.plugins.iter().rev() {
                    let valid = json!([{"containerID": "stays", "ifname": "eth0"}]);
                    Cni::new(BIN, "", "")
                        .call(
                            &self.host,
                            "GC",
                            plugin,
                            &self.config(plugin, "", None, Some(valid)),
                        )
                        .ok();
                }
                self.host.sh("ip netns del dies");
            }
        }
        if cleaning == Cleaning::FirstAdd {
            self.add("next");
            self.host.sh("ip netns exec next ping -c1 -W2 10.244.3.1");
            for plugin in self.chain.plugins.iter().rev() {
                self.call("DEL", plugin, "next", None).ok();
            }
            self.host
                .sh("ip netns del next; ip link del cni0; nft flush ruleset; rm -r /var/lib/cni");
            return killed;
        }
        let after = self.snapshot();
        let other = |one: &str, two: &str| -> Vec<String> {
            let lines = one.lines().filter(|line| !two.contains(line));
            lines.map(str::to_owned).collect()
        };
        assert!(
            before == after,
            "after {step:?}: left {:?}, lost {:?}",
            other(&after, &before),
            other(&before, &after)
        );
        killed
    }

    fn del(&self) {
        for plugin in self.chain.plugins.iter().rev() {
            self.call("DEL", plugin, "dies", None).ok();
        }
    }

    /// Everything on the node that a plugin can have made, except what tells nothing of any pod: the last address that was given,
    /// and host-local's own notes.
    fn snapshot(&self) -> String {
        self.host.sh(
            "ip -br link | sed 's/ .*//' | sort; ip -br address show up; ip route; ip -6 route; nft -s list ruleset; \
             tc qdisc show; find /run/cni -type f 2>/dev/null; find /var/lib/cni -type f ! -path '*/.host-local/*' ! -name 'last_reserved_ip.*' -printf '%p %s\n' | sort",
        )
    }
}
