//! `flanneld cleanup`: removes everything of ours from the node. It goes by what it finds, so it
//! may run twice, or after another version or Go flannel. It reports and leaves what is not proved
//! to be ours and what pods still need.

mod consent;
mod ownership;
mod plugins;
mod report;

use crate::{
    backend,
    best_effort::best_effort,
    cli::options::{NodeOptions, Options},
    files::last_leases,
    files::node_state::NodeState,
    files::subnet_env,
    reconcile::{self, Kernel},
    rules::stale_chains::{self, Removal},
    rules::{nftables, plugin_tables},
    underlay::HostNetwork,
};
use ::subnet_env::Previous;
use linux_net::{
    link,
    route::{self, RouteType},
    xfrm::{self, Policy},
};
use ownership::{BRIDGE, RouteOwner, attached_interfaces, families, route_owner};
use packet_filter::{Nft, Transaction};
use report::Report;
use std::{fs, io::ErrorKind, path::Path, process::ExitCode, thread, time::Duration};

/// A running daemon makes a deleted device again within this time.
const REPAIR_TIMEOUT: Duration = Duration::from_millis(300);

/// Succeeds if nothing of ours remains but what the report names as left.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    let _lock = match consent::obtain(&options.node, options.cleanup) {
        Ok(lock) => lock,
        Err(refused) => return report::refusal(refused),
    };
    // first: rules of containers that are gone keep the plugins' tables
    plugins::prune(&mut report);
    if let Err(error) = clean(&options.node, options.cleanup.all, &mut report) {
        report.failure(error);
    }
    let store = &options.leases.store;
    if store.exists() {
        report.left(
            store.display(),
            "the leases of the whole cluster; delete it by hand if no node needs them",
        );
    }
    report.print()
}

/// The error is that of a host that cannot be observed.
fn clean(options: &NodeOptions, all: bool, report: &mut Report) -> linux_net::Result<()> {
    let mut kernel = Kernel::open()?;
    let host = kernel.host_network(None)?;
    let env = subnet_env::previous(&options.subnet_file);
    let had_direct_routes = NodeState::load(&options.state_file).host_routes();
    remove_routes(&mut kernel, &host, &env, had_direct_routes, report);
    remove_devices(&mut kernel, &host, report);
    remove_ipsec(&mut kernel, &env, options, report);
    let bridge_left = !remove_bridge(&mut kernel, &host, &env, report);
    if let Some(nft) = best_effort(
        kernel.nft(),
        "a kernel without nftables has no rules of ours",
    ) {
        remove_tables(nft, report);
    }
    remove_chains(kernel.nft().ok(), report);
    if bridge_left {
        let file = options.subnet_file.display();
        report.left(file, format!("it proves that {BRIDGE} is flannel's"));
    } else {
        remove_file(&options.subnet_file, report);
    }
    remove_file(&last_leases::path(&options.state_file), report);
    remove_file(&backend::commands_record(&options.state_file), report);
    remove_keys(&options.state_file, all, report);
    if all {
        remove_file(&options.state_file, report);
    } else if options.state_file.exists() {
        let file = options.state_file.display();
        report.left(
            file,
            "this node's MAC addresses, for its return; -all removes them",
        );
    }
    thread::sleep(REPAIR_TIMEOUT);
    report_returned_device(&mut kernel, report)
}

/// The routes over the underlay; those over our devices go with these.
fn remove_routes(
    kernel: &mut Kernel,
    host: &HostNetwork,
    env: &Previous,
    had_direct_routes: bool,
    report: &mut Report,
) {
    let families = families(env);
    for route in &host.routes {
        let via = route.gateway.map(|ip| format!(" via {ip}"));
        let blackhole = route.kind == RouteType::BlackHole;
        let kind = if blackhole {
            "blackhole route"
        } else {
            "route"
        };
        let name = format!("{kind} {}{}", route.dst, via.unwrap_or_default());
        match route_owner(route, &families, had_direct_routes, host) {
            RouteOwner::Flanneld => {
                let request = route::delete(route);
                report.removal(name, kernel.netlink.request(&request));
            }
            RouteOwner::Unknown => report.left(
                name,
                "it leads to a part of the pod network, but not over the interface that flanneld used",
            ),
            RouteOwner::Other => {}
        }
    }
}

/// Peers know the node by its keys.
fn remove_keys(state_file: &Path, all: bool, report: &mut Report) {
    for file in backend::key_files(state_file) {
        if all {
            remove_file(&file, report);
        } else if file.exists() {
            let reason = "this node's WireGuard key, for its return; -all removes it";
            report.left(file.display(), reason);
        }
    }
}

fn remove_devices(kernel: &mut Kernel, host: &HostNetwork, report: &mut Report) {
    for link in host.links.iter().filter(|link| backend::owns_device(link)) {
        report.removal(
            format!("device {}", link.name),
            kernel.netlink.request(&link::delete(link.index)),
        );
    }
}

/// The policies of the backend ipsec, and its charon with all keys.
fn remove_ipsec(kernel: &mut Kernel, env: &Previous, options: &NodeOptions, report: &mut Report) {
    let xfrm = best_effort(kernel.xfrm(), "a kernel without IPsec has no policies");
    if let Some(xfrm) = xfrm {
        let families = families(env);
        let policies = best_effort(xfrm.policies(), "a kernel without IPsec has no policies");
        let is_ours = |policy: &Policy| reconcile::is_own_policy(policy, &families);
        for policy in policies
            .unwrap_or_default()
            .iter()
            .filter(|policy| is_ours(policy))
        {
            let request = xfrm::delete(policy);
            report.removal(format!("IPsec policy {policy}"), xfrm.request(&request));
        }
    }
    let folder = options.subnet_file.parent().unwrap_or(Path::new("/"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.map(|runtime| runtime.block_on(backend::retire_charon(folder))) {
        Ok(true) => report.removed("charon, the program that negotiates keys for ipsec".to_owned()),
        Ok(false) => {}
        Err(error) => report.failure(format!("charon: {error}")),
    }
}

/// False if the bridge is ours and stays, because pods are attached to it.
fn remove_bridge(
    kernel: &mut Kernel,
    host: &HostNetwork,
    env: &Previous,
    report: &mut Report,
) -> bool {
    let Some(bridge) = host.link(BRIDGE) else {
        return true;
    };
    let name = format!("bridge {BRIDGE}");
    match attached_interfaces(bridge, host, env) {
        Ok(0) => report.removal(name, kernel.netlink.request(&link::delete(bridge.index))),
        Ok(count) => {
            report.left(
                name,
                format!(
                    "{count} interfaces are still attached to it; run this again after the pods are deleted"
                ),
            );
            return false;
        }
        Err(not_ours) => report.left(name, not_ours),
    }
    true
}

/// Our tables, and those of the plugins in which no pod has a rule.
fn remove_tables(nft: &mut Nft, report: &mut Report) {
    let all = best_effort(nft.tables(), "a kernel without nftables has no tables");
    let mut tables = all.unwrap_or_default();
    tables.retain(|(family, name)| nftables::is_table(*family, name));
    for table in plugin_tables::ALL {
        match table.pod_entries(nft) {
            Ok(0) => tables.push((table.family, table.name.to_owned())),
            Ok(count) => report.left(
                format!("nftables table {}", table.name),
                format!(
                    "{count} rules of pods are still in it; run this again after the pods are deleted"
                ),
            ),
            Err(error) => report.failure(error),
        }
    }
    for (family, name) in tables {
        let table = best_effort(nft.table(family, &name), "the kernel lacks the family");
        if table.flatten().is_some() {
            let mut transaction = Transaction::new();
            transaction.delete_table(family, &name);
            report.removal(
                format!("nftables table {} {name}", family.as_str()),
                nft.commit(&transaction),
            );
        }
    }
}

/// The iptables chains of flanneld and of Go flanneld in both flavours, and portmap's if no pod has
/// a host port.
fn remove_chains(mut nft: Option<&mut Nft>, report: &mut Report) {
    let all = stale_chains::of_any_daemon()
        .into_iter()
        .chain([stale_chains::of_portmap()]);
    for (chains, ipv6) in all.flat_map(|chains| [(chains.clone(), false), (chains, true)]) {
        let family = if ipv6 { " (IPv6)" } else { "" };
        let name = format!("{}{family}", chains.description);
        match chains.remove(ipv6, nft.as_deref_mut(), None) {
            Ok(Removal::Absent) => {}
            Ok(Removal::Removed) => report.removed(name),
            Ok(Removal::InUse(count)) => report.left(
                name,
                format!(
                    "{count} pods still have host ports; run this again after they are deleted"
                ),
            ),
            Err(error) => report.failure(format!("{name}: {error}")),
        }
    }
}

fn remove_file(path: &Path, report: &mut Report) {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => report.removal(path.display().to_string(), result),
    }
}

/// A device of ours that is there again proves that a daemon runs.
fn report_returned_device(kernel: &mut Kernel, report: &mut Report) -> linux_net::Result<()> {
    let links = kernel.netlink.links()?;
    if let Some(link) = links.iter().find(|link| backend::owns_device(link)) {
        report.failure(format!(
            "device {}: it was created again; stop flanneld first",
            link.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
