//! CHECK of the container's addresses and routes.

use crate::{
    Error,
    container::kernel_route,
    error::{Context, ensure},
    plan::next_hop,
    sandbox::Sandbox,
};
use cni_conf::AddResult;
use go_compat::cidr;
use linux_net::{address::Address, link::Link, route};

pub(super) fn check(
    sandbox: &mut Sandbox,
    container: &Link,
    result: &AddResult,
) -> Result<(), Error> {
    let Link { index, name, .. } = container;
    let addresses = sandbox
        .netlink
        .addresses(Some(*index))
        .context(format!("could not list addresses of {name:?}"))?;
    let filter = route::Filter {
        oif: Some(*index),
        ..route::Filter::default()
    };
    let routes = sandbox
        .netlink
        .routes(filter)
        .context(format!("could not list routes of {name:?}"))?;
    check_addresses(name, &addresses, &routes, result)?;
    check_routes(*index, &routes, result)
}

/// The interface has each of its addresses and the connected route of each.
fn check_addresses(
    name: &str,
    addresses: &[Address],
    routes: &[route::Route],
    result: &AddResult,
) -> Result<(), Error> {
    for ip in own_ips(result, name) {
        let net = ip.address;
        ensure!(
            addresses.iter().any(|address| address.net == net),
            "Failed to match addr {net} on interface {name}"
        );
        let connected = cidr::masked(net);
        let single = net.prefix() == if net.is_ipv4() { 32 } else { 128 };
        ensure!(
            single || routes.iter().any(|route| route.dst == connected),
            "Failed to find Gateway {} for interface {name}",
            ip.gateway.map_or("<nil>".into(), |ip| ip.to_string())
        );
    }
    Ok(())
}

/// The interface has each of the result's routes.
fn check_routes(index: u32, routes: &[route::Route], result: &AddResult) -> Result<(), Error> {
    for wanted in &result.routes {
        let gateway = next_hop(wanted, &result.ips);
        let route = kernel_route(wanted, gateway, index);
        let present = routes.iter().any(|other| {
            other.dst == cidr::masked(route.dst)
                && (other.gateway == route.gateway || other.oif.is_none())
                && other.table == route.table
                && (route.priority == 0 || other.priority == route.priority)
        });
        ensure!(
            present,
            "Expected Route {} via {} not found in routing table",
            wanted.dst,
            gateway.map_or("<nil>".into(), |ip| ip.to_string())
        );
    }
    Ok(())
}

/// The result's addresses on the container's interface; those of chained plugins are on others.
pub(super) fn own_ips<'a>(
    result: &'a AddResult,
    ifname: &'a str,
) -> impl Iterator<Item = &'a cni_conf::IpConfig> {
    result.ips.iter().filter(move |ip| {
        ip.interface
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| interface.name == ifname)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_conf::{Interface, IpConfig, Route};
    use ipnetwork::IpNetwork;
    use linux_net::address::{AddressFlags, AddressScope};

    const INDEX: u32 = 7;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn claimed() -> AddResult {
        AddResult {
            interfaces: ["cni0", "veth0", "eth0"]
                .map(|name| Interface {
                    name: name.into(),
                    ..Interface::default()
                })
                .into(),
            ips: vec![IpConfig {
                interface: Some(2),
                address: net("10.1.0.5/24"),
                gateway: Some("10.1.0.1".parse().unwrap()),
            }],
            routes: vec![
                Route::new(net("10.0.0.0/8"), None),
                Route::new(net("0.0.0.0/0"), Some("10.1.0.1".parse().unwrap())),
            ],
            ..AddResult::default()
        }
    }

    fn addresses() -> Vec<Address> {
        vec![Address {
            index: INDEX,
            net: net("10.1.0.5/24"),
            scope: AddressScope::Universe,
            flags: AddressFlags::Permanent,
            label: None,
        }]
    }

    fn routes() -> Vec<route::Route> {
        let via = Some("10.1.0.1".parse().unwrap());
        let result = claimed();
        let mut routes: Vec<_> = result
            .routes
            .iter()
            .map(|route| kernel_route(route, via, INDEX))
            .collect();
        routes.push(kernel_route(
            &Route::new(net("10.1.0.0/24"), None),
            None,
            INDEX,
        ));
        routes
    }

    fn compare(
        addresses: &[Address],
        routes: &[route::Route],
        result: &AddResult,
    ) -> Result<(), Error> {
        check_addresses("eth0", addresses, routes, result)?;
        check_routes(INDEX, routes, result)
    }

    fn mismatch(addresses: &[Address], routes: &[route::Route]) -> Option<String> {
        compare(addresses, routes, &claimed())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn result_of_add_matches() {
        assert_eq!(mismatch(&addresses(), &routes()), None);
    }

    #[test]
    fn each_missing_object_is_named() {
        assert_eq!(
            mismatch(&[], &routes()).unwrap(),
            "Failed to match addr 10.1.0.5/24 on interface eth0"
        );
        let without = |n: usize| {
            let mut routes = routes();
            routes.remove(n);
            mismatch(&addresses(), &routes).unwrap()
        };
        assert_eq!(
            without(0),
            "Expected Route 10.0.0.0/8 via 10.1.0.1 not found in routing table"
        );
        assert_eq!(
            without(1),
            "Expected Route 0.0.0.0/0 via 10.1.0.1 not found in routing table"
        );
        assert_eq!(
            without(2),
            "Failed to find Gateway 10.1.0.1 for interface eth0"
        );
    }

    #[test]
    fn route_through_another_gateway_does_not_match() {
        let mut routes = routes();
        routes[1].gateway = Some("10.1.0.9".parse().unwrap());
        assert!(mismatch(&addresses(), &routes).is_some());
    }

    #[test]
    fn addresses_of_chained_plugins_are_not_checked() {
        let mut result = claimed();
        result.interfaces.push(Interface {
            name: "eth1".into(),
            ..Interface::default()
        });
        result.ips.push(IpConfig {
            interface: Some(3),
            address: net("192.0.2.1/24"),
            gateway: None,
        });
        assert!(compare(&addresses(), &routes(), &result).is_ok());
    }
}
