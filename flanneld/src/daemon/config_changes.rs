//! Which changes of the network configuration this node applies while its pods run.

use super::{InstanceError, InstanceLock, Resource};
use crate::{
    backend,
    best_effort::best_effort,
    model::{
        Subnets,
        lease::Lease,
        network_config::{Change, NetworkConfig},
    },
    subnet::Waiting,
    underlay::Underlay,
};
use nix::unistd::getpid;
use std::future;
use tokio::sync::watch;
use tracing::{info, warn};

/// What a configuration waits for that this node cannot apply.
const RESTART: &str = "for a restart of flanneld under the changed network configuration";
const USABLE: &str = "for a network configuration that this node can use, also at a restart";

/// Follows the store's configuration.
pub(super) struct ConfigChanges {
    pub(super) configs: watch::Receiver<NetworkConfig>,
    /// The one that this node goes by.
    pub(super) current: NetworkConfig,
    pub(super) own: watch::Receiver<Lease>,
    pub(super) underlay: Underlay,
    /// Says in the status what is needed.
    pub(super) waiting: Waiting,
}

/// What becomes of a configuration.
#[derive(Debug, PartialEq)]
enum Decision {
    /// It means what the current one means.
    Same,
    /// The pods of this node can keep what they have.
    Apply(Vec<Change>),
    /// They cannot: the reason.
    Keep(String),
    /// This node cannot start with it either.
    Refuse(String),
}

impl ConfigChanges {
    /// Waits for a configuration that this node can apply.
    pub(super) async fn applicable(mut self) -> NetworkConfig {
        self.configs.mark_changed();
        while self.configs.changed().await.is_ok() {
            let config = self.configs.borrow_and_update().clone();
            // the store has not told any yet
            if config.raw.is_empty() {
                continue;
            }
            let own = self.own.borrow().subnets;
            let decision = decide(&self.current, &config, &own, &self.underlay);
            let (waits_for, reason) = match (decision, self.check_resources(&config)) {
                (Decision::Same, _) => {
                    self.waiting.clear();
                    continue;
                }
                (Decision::Apply(changes), Ok(())) => {
                    log(&changes);
                    self.waiting.clear();
                    return config;
                }
                (Decision::Apply(_), Err(error)) => (USABLE, error.to_string()),
                (Decision::Refuse(reason), _) => (USABLE, reason),
                (Decision::Keep(reason), _) => (RESTART, reason),
            };
            warn!(
                "the network configuration changed, and this node keeps the one that it has: {reason}"
            );
            self.waiting.report(format!("{waits_for}: {reason}"));
        }
        future::pending().await
    }

    /// Fails if another daemon of this host manages a device or a network that this one would take.
    fn check_resources(&self, later: &NetworkConfig) -> Result<(), InstanceError> {
        let resources = |config: &NetworkConfig| {
            let meaning = best_effort(backend::check(config), "another check refuses it");
            let devices = meaning.map_or_else(Vec::new, |meaning| meaning.devices);
            let devices = devices.into_iter().map(Resource::Device);
            let networks = config.pod_networks().map(Resource::Network);
            devices.chain(networks).collect::<Vec<_>>()
        };
        let own = resources(&self.current);
        let further = resources(later).into_iter();
        let mut further = further.filter(|resource| !own.contains(resource));
        further.try_for_each(|resource| match InstanceLock::acquire([resource]) {
            // by this process: one of an earlier backend, which the change takes up again
            Err(InstanceError::Held { pid, .. }) if pid == Some(getpid().as_raw()) => Ok(()),
            acquired => acquired.map(drop),
        })
    }
}

fn decide(
    current: &NetworkConfig,
    later: &NetworkConfig,
    own: &Subnets,
    underlay: &Underlay,
) -> Decision {
    let changes = current.changes(later);
    if changes.is_empty() {
        return Decision::Same;
    }
    if let Err(error) = backend::check(later) {
        return Decision::Refuse(error.to_string());
    }
    if let Err(error) = later.check_underlay(underlay.addresses()) {
        return Decision::Refuse(error.to_string());
    }
    let families = |config: &NetworkConfig| (config.enable_ipv4, config.enable_ipv6);
    let fixed = if families(current) != families(later) {
        "its pods have addresses of the families that were enabled when they started"
    } else if !later.may_lease(own) {
        "its pods have addresses of its subnet, which the changed configuration does not lease"
    } else {
        return Decision::Apply(changes);
    };
    let changes = list(&changes);
    let subnets = own.cidrs();
    Decision::Keep(format!(
        "{changes}: {fixed} ({subnets}); drain the node, restart flanneld, and start its pods anew"
    ))
}

fn list(changes: &[Change]) -> String {
    let texts: Vec<_> = changes.iter().map(Change::to_string).collect();
    texts.join(", ")
}

fn log(changes: &[Change]) {
    info!("the network configuration changed: {}", list(changes));
    if changes
        .iter()
        .any(|change| change.key.eq_ignore_ascii_case("Backend.MTU"))
    {
        warn!("pods that run keep their MTU until they are started anew");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rest: &str) -> NetworkConfig {
        let mut config = NetworkConfig::parse(&format!(
            r#"{{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan"}}{rest}}}"#
        ))
        .unwrap();
        config.check_subnets().unwrap();
        config
    }

    fn decision(rest: &str) -> Decision {
        let underlay = Underlay {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            address: Some("172.31.0.1".parse().unwrap()),
            address_v6: None,
            public_ip: Some("172.31.0.1".parse().unwrap()),
            public_ipv6: None,
        };
        let own = "10.244.7.0-24".parse().unwrap();
        decide(&config(""), &config(rest), &own, &underlay)
    }

    #[test]
    fn what_pods_can_keep_is_applied() {
        assert_eq!(decision(""), Decision::Same);
        assert_eq!(decision(r#","EnableNFTables":true"#), {
            let changes = config("").changes(&config(r#","EnableNFTables":true"#));
            Decision::Apply(changes)
        });
        for rest in [
            r#","Backend":{"Type":"vxlan","Port":4789}"#,
            r#","Backend":{"Type":"vxlan","VNI":7,"MTU":1400,"DirectRouting":true}"#,
            r#","Network":"10.0.0.0/8""#,
            r#","SubnetMin":"10.244.5.0""#,
        ] {
            let decided = decision(rest);
            assert!(matches!(decided, Decision::Apply(_)), "{rest}: {decided:?}");
        }
    }

    #[test]
    fn what_no_start_takes_is_refused() {
        for (rest, reason) in [
            (
                r#","Backend":{"Type":"tencent-vpc"}"#,
                "unknown backend type: tencent-vpc (this build has: udp, vxlan, host-gw, ipip, ipsec, wireguard, alloc, \
                 extension; set Backend.Type in the network configuration); for the routes of a cloud: \
                 docs/cloud-routes.md",
            ),
            (
                r#","Backend":{"Type":"vxlan","VNI":16777215}"#,
                "Backend.VNI 16777215",
            ),
            (
                r#","Network":"172.0.0.0/8""#,
                "Network 172.0.0.0/8 contains",
            ),
        ] {
            match decision(rest) {
                Decision::Refuse(text) => assert!(text.starts_with(reason), "{rest}: {text}"),
                other => panic!("{rest}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_pods_cannot_keep_waits_for_a_restart() {
        for (rest, reason) in [
            (
                r#","Network":"10.245.0.0/16""#,
                "Network from 10.244.0.0/16 to 10.245.0.0/16: its pods have addresses of its subnet",
            ),
            (r#","SubnetLen":25"#, "SubnetLen from not set to 25: "),
            (r#","SubnetMin":"10.244.9.0""#, "SubnetMin from not set to"),
            (
                r#","EnableIPv6":true,"IPv6Network":"fd00::/48""#,
                "EnableIPv6 from not set to true, IPv6Network",
            ),
        ] {
            match decision(rest) {
                Decision::Keep(text) => assert!(text.starts_with(reason), "{rest}: {text}"),
                other => panic!("{rest}: {other:?}"),
            }
        }
    }
}
