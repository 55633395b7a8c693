//! `flanneld cleanup`: everything of ours off the node. It goes by what it finds, so it may run twice, or after another
//! version or Go flannel; what cannot be proved ours stays, and it says so.
use crate::{
    backend,
    cli::{self, options::NodeOptions},
    files::node_state::NodeState,
    model::Family,
    reconcile::{self, Kernel},
    rules::legacy_chains::{self, Removal},
    rules::nftables,
    rules::plugin_tables,
};
use ipnetwork::IpNetwork;
use linux_net::{
    address::Address,
    link::{self, Kind, Link},
    route::{self, Route},
};
use packet_filter::{Nft, Transaction};
use std::{fs, io, net::IpAddr, path::Path, process::ExitCode, thread, time::Duration};
use subnet_env::{self, Previous};

/// A daemon that still runs has repaired something by then.
const REPAIR: Duration = Duration::from_millis(300);

/// The bridge that the plugins make.
const BRIDGE: &str = "cni0";

/// What was done, line by line as it is shown.
#[derive(Debug, Default)]
struct Report {
    removed: Vec<String>,
    left: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    fn note(&mut self, what: String, result: Result<(), impl std::fmt::Display>) {
        match result {
            Ok(()) => self.removed.push(what),
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// Runs; success means that nothing of ours is left but what is named as left.
pub(crate) fn run(options: &NodeOptions, store: &Path) -> ExitCode {
    let mut report = Report::default();
    let node = NodeState::load(&options.state_file);
    let env = fs::read(&options.subnet_file).unwrap_or_default();
    let env = subnet_env::previous(&String::from_utf8_lossy(&env));
    match Kernel::open() {
        Ok(mut kernel) => {
            if take_down(&mut kernel, &env, node.host_routes(), &mut report) {
                remove_file(&options.subnet_file, &mut report);
            } else {
                let file = options.subnet_file.display();
                report
                    .left
                    .push(format!("{file}: it tells that {BRIDGE} is flannel's"));
            }
            remove_file(&options.state_file, &mut report);
            thread::sleep(REPAIR);
            check(&mut kernel, &mut report);
        }
        Err(error) => report.failed.push(error.to_string()),
    }
    if store.exists() {
        report.left.push(format!(
            "{}: the leases of the whole cluster; delete it by hand if no node needs them",
            store.display()
        ));
    }
    show(&report)
}

fn show(report: &Report) -> ExitCode {
    let mut text = String::new();
    for (word, lines) in [
        ("removed", &report.removed),
        ("left", &report.left),
        ("FAILED", &report.failed),
    ] {
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("{word} {line}\n")));
    }
    if text.is_empty() {
        text.push_str("nothing of flanneld's is on this node\n");
    }
    match cli::print(&text) {
        code if report.failed.is_empty() => code,
        _ => ExitCode::FAILURE,
    }
}

/// False if a bridge of ours is left, because pods still use it.
fn take_down(kernel: &mut Kernel, env: &Previous, host_routes: bool, report: &mut Report) -> bool {
    let seen = match kernel.host_network(None) {
        Ok(seen) => seen,
        Err(error) => {
            report.failed.push(error.to_string());
            return true;
        }
    };
    let mut bridge_done = true;
    if host_routes {
        let families = families(env);
        for route in seen
            .routes
            .iter()
            .filter(|route| reconcile::is_direct_route(route, &families))
        {
            let gateway = route.gateway.map(|ip| ip.to_string()).unwrap_or_default();
            let request = route::delete(&Route {
                protocol: 0,
                ..route.clone()
            });
            report.note(
                format!("route {} via {gateway}", route.dst),
                kernel.netlink.request(&request),
            );
        }
    }
    for link in seen.links.iter().filter(|link| backend::owns_device(link)) {
        report.note(
            format!("device {}", link.name),
            kernel.netlink.request(&link::delete(link.index)),
        );
    }
    if let Some(bridge) = seen.links.iter().find(|link| link.name == BRIDGE) {
        match judge_bridge(bridge, &seen.links, &seen.addresses, env) {
            Ok(0) => {
                let result = kernel.netlink.request(&link::delete(bridge.index));
                report.note(format!("bridge {BRIDGE}"), result);
            }
            Ok(pods) => {
                bridge_done = false;
                report.left.push(format!(
                    "bridge {BRIDGE}: {pods} interfaces are still attached to it; run this again when the pods are gone"
                ));
            }
            Err(reason) => report.left.push(format!("bridge {BRIDGE}: {reason}")),
        }
    }
    if let Ok(nft) = kernel.nft() {
        take_down_tables(nft, report);
        take_down_chains(nft, report);
    }
    bridge_done
}

fn take_down_tables(nft: &mut Nft, report: &mut Report) {
    let mut tables = nftables::TABLES.to_vec();
    for table in plugin_tables::ALL {
        match table.pod_entries(nft) {
            Ok(0) => tables.push((table.family, table.name)),
            Ok(rules) => report.left.push(format!(
                "nftables table {}: {rules} rules of pods are still in it; run this again when the pods are gone",
                table.name
            )),
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    for (family, name) in tables {
        if let Ok(Some(_)) = nft.table(family, name) {
            let mut transaction = Transaction::new();
            transaction.delete_table(family, name);
            report.note(
                format!("nftables table {} {name}", family.as_str()),
                nft.commit(&transaction),
            );
        }
    }
}

fn take_down_chains(nft: &mut Nft, report: &mut Report) {
    for chains in legacy_chains::GO_FLANNELD
        .into_iter()
        .chain([legacy_chains::PORTMAP])
    {
        for ipv6 in [false, true] {
            let what = if ipv6 {
                format!("{} (IPv6)", chains.description)
            } else {
                chains.description.to_owned()
            };
            match chains.remove(ipv6, nft) {
                Ok(Removal::Absent) => {}
                Ok(Removal::Removed) => report.removed.push(what),
                Ok(Removal::InUse(pods)) => report.left.push(format!(
                    "{what}: {pods} pods still have host ports; run this again when they are gone"
                )),
                Err(error) => report.failed.push(format!("{what}: {error}")),
            }
        }
    }
}

/// The families that subnet.env names.
fn families(env: &Previous) -> Vec<Family> {
    let family = |network: Option<IpNetwork>, subnet: Option<IpNetwork>| {
        let (network, subnet) = network.zip(subnet)?;
        Some(Family {
            network,
            subnet,
            public_ip: IpAddr::from([0, 0, 0, 0]),
        })
    };
    let v4 = family(env.network, env.subnet);
    let v6 = family(env.ipv6_network, env.ipv6_subnet);
    v4.into_iter().chain(v6).collect()
}

/// Whether the bridge is the plugins', by this node's address on it; how many interfaces are attached to it.
fn judge_bridge(
    bridge: &Link,
    links: &[Link],
    addresses: &[Address],
    env: &Previous,
) -> Result<usize, String> {
    if !matches!(bridge.kind, Kind::Bridge { .. }) {
        return Err("it is no bridge".to_owned());
    }
    let subnets = [env.subnet, env.ipv6_subnet];
    let is_gateway = |address: &&Address| {
        let net = address.net;
        let is_in =
            |subnet: &IpNetwork| net.prefix() == subnet.prefix() && subnet.contains(net.ip());
        address.index == bridge.index && subnets.iter().flatten().any(is_in)
    };
    if addresses.iter().find(is_gateway).is_none() {
        return Err(
            "it has no address of the subnet in subnet.env, so it may be somebody else's"
                .to_owned(),
        );
    }
    Ok(links
        .iter()
        .filter(|link| link.master == Some(bridge.index))
        .count())
}

fn remove_file(path: &Path, report: &mut Report) {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => report.note(path.display().to_string(), result),
    }
}

/// A flanneld that still runs puts everything back.
fn check(kernel: &mut Kernel, report: &mut Report) {
    let links = kernel.netlink.links().unwrap_or_default();
    if let Some(link) = links.iter().find(|link| backend::owns_device(link)) {
        report.failed.push(format!(
            "device {}: it came back; stop flanneld first",
            link.name
        ));
    }
}

#[cfg(test)]
mod tests;
