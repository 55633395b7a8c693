//! One pass: look at the host, work out what it should be, change what differs. Synchronous; the loop that decides when is
//! `reconciler`.
use crate::{
    backend::peers::Skipped,
    backend::{self, Backend, Input, Plan},
    files::subnet_env,
    model::host_state::HostState,
    model::lease::{Lease, Leases},
    model::network_config::NetworkConfig,
    reconcile::apply::{self, Applied, Names},
    reconcile::backoff::Backoff,
    reconcile::diff::{Change, diff},
    reconcile::event_filter::View,
    reconcile::observe::{Dump, Kernel},
    reconcile::ownership::Scope,
    rules::legacy_chains::{self, Removal},
    rules::{RuleSettings, nftables},
    underlay::DirectRoutes,
    underlay::{Observation, Selector, Tracker, Underlay},
};
use std::{path::PathBuf, sync::Arc, time::Instant};
use tracing::{debug, info, warn};

/// Attempts after which an entry that the kernel refuses no longer counts against readiness: one bad peer must not take a
/// node out of service.
const PATIENCE: u32 = 3;

/// All that stays the same while the daemon runs.
pub struct Settings {
    /// the network
    pub config: NetworkConfig,
    /// how packets get to peers
    pub backend: Arc<dyn Backend>,
    /// which interface
    pub selector: Selector,
    /// which rules
    pub rules: RuleSettings,
    /// where subnet.env is
    pub subnet_file: PathBuf,
    /// this node has had routes over the underlay: those that nobody needs any more are ours
    pub host_routes: bool,
}

/// The state between passes.
pub struct Engine {
    settings: Settings,
    kernel: Kernel,
    underlay: Tracker,
    backoff: Backoff,
    skipped: Vec<Skipped>,
    env_error: Option<String>,
    last_peers: Option<usize>,
    /// Go flanneld's iptables rules have been looked for
    predecessor_gone: bool,
}

/// What came of a pass.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// devices, addresses, rules and subnet.env are as they should be
    pub foundation: bool,
    /// every peer of the picture is programmed, but for what the kernel has refused several times
    pub converged: bool,
    /// the picture was known
    pub with_peers: bool,
    /// how many peers, each family counted
    pub peers: usize,
    /// leases that cannot be used
    pub skipped: usize,
    /// entries that fail
    pub failing: usize,
    /// something was changed: worth another look
    pub changed: bool,
    /// when something that failed is due again
    pub retry: Option<Instant>,
    /// how we are reached now
    pub underlay: Underlay,
    /// to judge notifications by
    pub view: View,
    /// subnet.env's text, once it is written
    pub subnet_env: Option<String>,
}

impl Engine {
    /// Sockets are opened in the calling thread's namespace.
    pub fn new(settings: Settings, kernel: Kernel, underlay: Underlay) -> Engine {
        Engine {
            settings,
            kernel,
            underlay: Tracker::new(underlay),
            backoff: Backoff::default(),
            skipped: Vec::new(),
            env_error: None,
            last_peers: None,
            predecessor_gone: false,
        }
    }

    /// Where subnet.env is.
    pub fn subnet_file(&self) -> &std::path::Path {
        &self.settings.subnet_file
    }

    /// Makes the host what it should be. Without a picture of the leases it lays the foundation and leaves every peer's
    /// entries as they are. The error is that of a host that cannot even be looked at.
    pub fn pass(&mut self, own: &Lease, leases: Option<&Leases>) -> linux_net::Result<Outcome> {
        let start = Instant::now();
        let names = self.settings.backend.device_names().to_vec();
        let dump = self.kernel.dump(&names, self.settings.selector.can_reach)?;
        let look_again = self.follow_underlay(&dump);
        let scope = self.scope(own);
        let seen = dump.interpret(&scope);
        let mut plan = self.plan(own, leases, &dump, &scope);
        if leases.is_none() {
            plan.state.keep_peers_of(&seen);
        }
        self.report_skipped(leases.is_some(), &mut plan);
        let changes = diff(&plan.state, &seen);
        drop(seen);
        let (looked, count) = (start.elapsed(), changes.len());
        let mut by_name: Names = dump
            .indexes(&scope)
            .into_iter()
            .map(|(index, name)| (name, index))
            .collect();
        let underlay = &self.underlay.current;
        by_name.insert(underlay.name.as_str().into(), underlay.index);
        drop(dump);
        let applied = apply::apply(
            &mut self.kernel,
            &plan.state,
            changes,
            &mut by_name,
            &mut self.backoff,
        );
        log(&applied);
        debug!(
            "a pass: {looked:?} to look and plan, {:?} for {count} changes",
            start.elapsed() - looked
        );
        self.log_peers(leases.is_some(), plan.peers);
        let failing_foundation = self
            .backoff
            .failing()
            .any(|(change, _)| is_foundation(change, &plan.state));
        if !failing_foundation && !self.predecessor_gone {
            self.remove_predecessor();
        }
        let present = self.underlay.is_present();
        let subnet_env = self.keep_subnet_env(own, !failing_foundation);
        Ok(Outcome {
            foundation: !failing_foundation && subnet_env.is_some() && present,
            converged: self
                .backoff
                .failing()
                .all(|(_, failed)| failed.attempts >= PATIENCE),
            with_peers: leases.is_some(),
            peers: plan.peers,
            skipped: self.skipped.len(),
            failing: self.backoff.failing().count(),
            changed: !applied.done.is_empty(),
            retry: self.backoff.next().into_iter().chain(look_again).min(),
            underlay: self.underlay.current.clone(),
            view: View {
                wanted: Arc::new(plan.state),
                indexes: by_name
                    .into_iter()
                    .filter(|(name, _)| scope.device(name).is_some())
                    .map(|(name, index)| (index, name))
                    .collect(),
                scope,
                underlay: present.then(|| self.underlay.current.clone()),
            },
            subnet_env,
        })
    }

    /// Our rules stand: those that Go flanneld left in iptables are no longer needed, and would outlive its subnet.
    fn remove_predecessor(&mut self) {
        self.predecessor_gone = true;
        let Ok(nft) = self.kernel.nft() else { return };
        for chains in legacy_chains::GO_FLANNELD {
            for ipv6 in [false, true] {
                match chains.remove(ipv6, nft) {
                    Ok(Removal::Removed) => info!("removed the {}", chains.description),
                    Ok(Removal::Absent | Removal::InUse(_)) => {}
                    Err(error) => warn!("the {} stay: {error}", chains.description),
                }
            }
        }
    }

    /// When to look again, if the underlay is gone. Until then the data path is left as it is.
    fn follow_underlay(&mut self, dump: &Dump) -> Option<Instant> {
        match self
            .underlay
            .update(&self.settings.selector, &dump.host, Instant::now())
        {
            Observation::Unchanged => None,
            Observation::Changed => {
                info!("the underlay is now {}", self.underlay.current);
                self.backoff.forget();
                None
            }
            Observation::Missing { first, until } => {
                if first {
                    warn!(
                        "the underlay {} is gone; waiting for it",
                        self.underlay.current
                    );
                }
                Some(until).filter(|until| *until > Instant::now())
            }
        }
    }

    fn scope(&self, own: &Lease) -> Scope {
        Scope {
            names: self.settings.backend.device_names().to_vec(),
            families: backend::families(&self.settings.config, &self.underlay.current, own),
            host_routes_over: self
                .settings
                .host_routes
                .then(|| self.underlay.current.name.as_str().into()),
        }
    }

    fn plan(&self, own: &Lease, leases: Option<&Leases>, dump: &Dump, scope: &Scope) -> Plan {
        let indexes = dump.indexes(scope);
        let over_us = |route: &linux_net::route::Route| {
            route.oif.is_some_and(|oif| indexes.contains_key(&oif))
        };
        let direct_routes = if self.settings.backend.makes_host_routes() {
            let foreign = |route: &linux_net::route::Route| {
                over_us(route)
                    || scope
                        .route(route, |_| scope.host_routes_over.clone())
                        .is_some()
            };
            DirectRoutes::new(&dump.host.routes, foreign)
        } else {
            DirectRoutes::default()
        };
        let mut plan = self.settings.backend.plan(&Input {
            config: &self.settings.config,
            underlay: &self.underlay.current,
            own,
            leases: leases.map(|leases| leases.as_slice()).unwrap_or_default(),
            direct_routes: &direct_routes,
        });
        plan.state.tables = nftables::tables(&self.settings.config, own, self.settings.rules);
        plan
    }

    /// Says what is newly wrong with peers' leases, once.
    fn report_skipped(&mut self, known: bool, plan: &mut Plan) {
        if !known {
            return;
        }
        plan.skipped.sort();
        for skipped in &plan.skipped {
            if self.skipped.binary_search(skipped).is_err() {
                warn!("the lease of {skipped}; it is left out");
            }
        }
        self.skipped = std::mem::take(&mut plan.skipped);
    }

    fn log_peers(&mut self, known: bool, peers: usize) {
        if known && self.last_peers != Some(peers) {
            info!("{peers} peers");
            self.last_peers = Some(peers);
        }
    }

    /// Writes subnet.env once the foundation stands, and again if it is gone; its text if it is there.
    fn keep_subnet_env(&mut self, own: &Lease, foundation: bool) -> Option<String> {
        let mtu = self.settings.backend.pod_mtu(&self.underlay.current);
        let text = subnet_env::content(
            &self.settings.config,
            own,
            mtu,
            self.settings.rules.masquerade,
        );
        let path = &self.settings.subnet_file;
        if !foundation && !subnet_env::is_current(path, &text) {
            return None;
        }
        match subnet_env::ensure(path, &text) {
            Ok(written) => {
                if written {
                    info!("wrote {}", path.display());
                }
                self.env_error = None;
                Some(text)
            }
            Err(error) => {
                let error = format!("failed to write {}: {error}", path.display());
                if self.env_error.as_ref() != Some(&error) {
                    warn!("{error}");
                }
                self.env_error = Some(error);
                None
            }
        }
    }
}

/// What every pod of the node depends on, as opposed to what leads to one peer. The empty table of a family that the network
/// has not is nothing that anybody depends on, and a kernel without that family cannot make it.
fn is_foundation(change: &Change, wanted: &HostState) -> bool {
    match change {
        Change::DeleteLink(_) | Change::CreateLink(_) | Change::AlterLink(_) => true,
        Change::AddAddress(..) => true,
        Change::SetTable(family, name) => wanted.tables.iter().any(|table| {
            table.family == *family && table.name == *name && !table.chains.is_empty()
        }),
        _ => false,
    }
}

/// One line for what was done, one for each thing that newly fails.
fn log(applied: &Applied) {
    let (mut put, mut deleted, mut tables) = (0, 0, 0);
    for change in &applied.done {
        match change {
            Change::CreateLink(name) => info!("made device {name}"),
            Change::AlterLink(name) => info!("set MTU, MAC and state of device {name}"),
            Change::DeleteLink(name) => info!("deleted device {name}"),
            Change::AddAddress(name, net) => info!("added address {net} to {name}"),
            Change::DeleteAddress(name, net) => info!("deleted address {net} from {name}"),
            Change::SetTable(..) | Change::DeleteTable(..) => tables += 1,
            Change::PutNeighbour(..) | Change::PutFdb(..) | Change::PutRoute(_) => put += 1,
            Change::DeleteNeighbour(..) | Change::DeleteFdb(..) | Change::DeleteRoute(_) => {
                deleted += 1;
            }
        }
    }
    if tables > 0 {
        info!("set {tables} nftables tables");
    }
    if put + deleted > 0 {
        info!("peers' routes, neighbours and forwarding entries: {put} set, {deleted} deleted");
    }
    for (change, error) in &applied.new_failures {
        warn!("{error}; it is tried again ({})", kind(change));
    }
}

fn kind(change: &Change) -> &'static str {
    match change {
        Change::DeleteLink(_) | Change::CreateLink(_) | Change::AlterLink(_) => "device",
        Change::AddAddress(..) | Change::DeleteAddress(..) => "address",
        Change::PutNeighbour(..) | Change::DeleteNeighbour(..) => "neighbour",
        Change::PutFdb(..) | Change::DeleteFdb(..) => "forwarding entry",
        Change::PutRoute(_) | Change::DeleteRoute(_) => "route",
        Change::SetTable(..) | Change::DeleteTable(..) => "rules",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet_filter::Family;

    #[test]
    fn a_table_that_nobody_needs_holds_nobody_up() {
        let config = NetworkConfig::parse(r#"{"Network":"10.244.0.0/16"}"#).unwrap();
        let own = Lease {
            subnets: "10.244.1.0-24".parse().unwrap(),
            attrs: Default::default(),
            expiration: None,
        };
        let rules = RuleSettings {
            masquerade: true,
            fully_random: true,
            forward: true,
        };
        let wanted = HostState {
            tables: nftables::tables(&config, &own, rules),
            ..HostState::default()
        };
        let set =
            |family, name: &str| is_foundation(&Change::SetTable(family, name.to_owned()), &wanted);
        assert!(set(Family::Ip, "flannel-ipv4"));
        assert!(!set(Family::Ip6, "flannel-ipv6"));
    }
}
