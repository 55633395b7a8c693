//! The container's interface: sysctls, addresses and routes.

use crate::{
    Error,
    conf::Settings,
    device::{Device, up},
    error::Context,
    plan::{Plan, next_hop},
    sandbox::Sandbox,
    wait,
};
use go_compat::cidr;
use linux_net::{
    Request, address,
    route::{self, RouteScope},
    sysctl,
};
use plugin::best_effort;
use std::net::IpAddr;

/// Sets the interface up without addresses.
pub(crate) fn bring_up(sandbox: &mut Sandbox, container: &Device) -> Result<(), Error> {
    sandbox
        .netlink
        .request(&up(container.index))
        .context(format!("failed to set {:?} up", container.name))
}

/// Sets the sysctls that must precede the interface's coming up: `accept_dad` (duplicate address
/// detection delays IPv6 by one to two seconds) and `arp_notify` (a gratuitous ARP updates the
/// neighbours' caches).
pub(crate) fn set_sysctls(
    sandbox: &Sandbox,
    ifname: &str,
    settings: &Settings,
    ipv6: bool,
) -> Result<(), Error> {
    sandbox
        .ns
        .run(|| write_sysctls(ifname, settings.dad, ipv6))
        .context("failed to enter the container's network namespace")?
}

fn write_sysctls(ifname: &str, dad: bool, ipv6: bool) -> Result<(), Error> {
    let set = |family: &str, ifname: &str, key: &str, value: &str| {
        sysctl::set(&format!("net/{family}/conf/{ifname}/{key}"), value)
    };
    let no_ipv6 = "a kernel without IPv6 has no such key";
    if dad {
        best_effort(set("ipv6", ifname, "enhanced_dad", "1"), no_ipv6);
    }
    let accept_dad = if dad { "1" } else { "0" };
    best_effort(set("ipv6", ifname, "accept_dad", accept_dad), no_ipv6);
    let arp_notify = set("ipv4", ifname, "arp_notify", "1");
    best_effort(arp_notify, "the pod works without gratuitous ARP");
    if !ipv6 {
        return Ok(());
    }
    for interface in ["lo", ifname] {
        set("ipv6", interface, "disable_ipv6", "0")
            .context(format!("failed to enable IPv6 for interface {interface:?}"))?;
    }
    set("ipv6", ifname, "keep_addr_on_down", "1").context(format!(
        "failed to enable keep_addr_on_down for interface {ifname:?}"
    ))
}

/// Adds the addresses, sets the interface up and adds the routes, all in one packet unless the
/// routes have to wait for duplicate address detection.
pub(crate) fn configure(
    sandbox: &mut Sandbox,
    container: &Device,
    plan: &Plan,
    settings: &Settings,
) -> Result<(), Error> {
    let mut steps = address_steps(container, plan, !settings.dad);
    if settings.dad && plan.has_ipv6_gateway() {
        send(sandbox, steps)?;
        wait::addresses_settled(sandbox, container)?;
        steps = Vec::new();
    }
    steps.extend(route_steps(container, plan));
    send(sandbox, steps)
}

/// A request, and the message of its failure.
type Step = (Request, String);

fn address_steps(container: &Device, plan: &Plan, nodad: bool) -> Vec<Step> {
    let (index, name) = (container.index, &container.name);
    let add = plan.ips.iter().map(|ip| {
        let failure = format!("failed to add IP addr {} to {name:?}", ip.address);
        (address::add(index, ip.address, nodad), failure)
    });
    add.chain([(up(index), format!("failed to set {name:?} UP"))])
        .collect()
}

fn route_steps<'a>(container: &'a Device, plan: &'a Plan) -> impl Iterator<Item = Step> + 'a {
    plan.routes.iter().map(|wanted| {
        let gateway = next_hop(wanted, &plan.ips);
        let route = kernel_route(wanted, gateway, container.index);
        let failure = format!(
            "failed to add route '{} via {} dev {} metric {} (Scope: {}, Table: {})'",
            wanted.dst,
            gateway.map_or("<nil>".into(), |ip| ip.to_string()),
            container.name,
            wanted.priority,
            scope_name(route.scope),
            wanted.table.unwrap_or(0),
        );
        (route::append(&route), failure)
    })
}

fn send(sandbox: &mut Sandbox, steps: Vec<Step>) -> Result<(), Error> {
    let (requests, failures): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let answers = sandbox.netlink.batch(&requests);
    answers
        .into_iter()
        .zip(failures)
        .try_for_each(|(answer, failure)| answer.context(failure))
}

/// The route for the kernel: without host bits. Unlike upstream, it has `mtu` and `advmss`.
pub(crate) fn kernel_route(
    wanted: &cni_conf::Route,
    gateway: Option<IpAddr>,
    index: u32,
) -> route::Route {
    let route = route::Route::new(cidr::masked(wanted.dst));
    let table = wanted.table.filter(|&table| table != 0);
    route::Route {
        gateway,
        oif: Some(index),
        priority: wanted.priority,
        mtu: wanted.mtu,
        advmss: wanted.advmss,
        table: table.unwrap_or(route.table),
        scope: wanted.scope.map_or(route.scope, RouteScope::from),
        ..route
    }
}

/// As Go's netlink library prints it.
fn scope_name(scope: RouteScope) -> &'static str {
    match scope {
        RouteScope::Universe => "universe",
        RouteScope::Site => "site",
        RouteScope::Link => "link",
        RouteScope::Host => "host",
        RouteScope::NoWhere => "nowhere",
        _ => "unknown",
    }
}
