//! Computes the addresses and routes of a pod, and the bridge's gateway addresses, from the
//! settings and the IPAM plugin's result. No I/O.

use crate::{Error, conf::Settings};
use cni_conf::{AddResult, IpConfig, Route};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The position of the container's interface in the result, after the bridge and the host end.
const CONTAINER: usize = 2;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// The result's addresses; each has its gateway where the bridge is one.
    pub(crate) ips: Vec<IpConfig>,
    /// The result's routes, with the default routes of `isDefaultGateway`.
    pub(crate) routes: Vec<Route>,
    /// The addresses that the bridge must have.
    pub(crate) gateways: Vec<IpNetwork>,
}

impl Plan {
    /// Where the bridge is the gateway and IPAM gave none, it is the subnet's first address.
    pub(crate) fn new(settings: &Settings, ipam: &AddResult) -> Result<Plan, Error> {
        if ipam.ips.is_empty() {
            return Err(Error::NoAddresses);
        }
        let mut plan = Plan {
            ips: ipam.ips.clone(),
            routes: ipam.routes.clone(),
            gateways: Vec::new(),
        };
        for ip in &mut plan.ips {
            ip.interface = Some(CONTAINER);
            if !settings.gateway {
                continue;
            }
            let no_gateway = || Error::NoGateway(ip.address);
            let gateway = match ip.gateway {
                Some(gateway) => gateway,
                None => first_address(ip.address).ok_or_else(no_gateway)?,
            };
            let address = IpNetwork::new(gateway, ip.address.prefix()).map_err(|_| no_gateway())?;
            ip.gateway = Some(gateway);
            if !plan.gateways.contains(&address) {
                plan.gateways.push(address);
            }
        }
        if settings.default_gateway {
            plan.add_default_routes();
        }
        Ok(plan)
    }

    /// Adds one for each family, unless IPAM gave one with a gateway.
    fn add_default_routes(&mut self) {
        for ip in &self.ips {
            let everything = match ip.address {
                IpNetwork::V4(_) => IpNetwork::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                IpNetwork::V6(_) => IpNetwork::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            };
            // a length of 0 is valid
            let Ok(everything) = everything else { continue };
            let present = |route: &Route| route.gw.is_some() && route.dst == everything;
            if !self.routes.iter().any(present) {
                self.routes.push(Route::new(everything, ip.gateway));
            }
        }
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv6())
    }

    /// True if routes need addresses for which duplicate address detection has ended.
    pub(crate) fn has_ipv6_gateway(&self) -> bool {
        let gateways = self.ips.iter().filter_map(|ip| ip.gateway);
        gateways.into_iter().any(|gateway| gateway.is_ipv6())
    }
}

/// The next hop of a route: its own, or else the first gateway of its family.
pub(crate) fn next_hop(route: &Route, ips: &[IpConfig]) -> Option<IpAddr> {
    let mut gateways = ips.iter().filter_map(|ip| ip.gateway);
    route
        .gw
        .or_else(|| gateways.find(|gateway| gateway.is_ipv6() == route.dst.is_ipv6()))
}

/// The network's address plus one; None at the end of the address space.
fn first_address(address: IpNetwork) -> Option<IpAddr> {
    match address.network() {
        IpAddr::V4(ip) => Some(Ipv4Addr::from(u32::from(ip).checked_add(1)?).into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip).checked_add(1)?).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Settings {
        Settings {
            gateway: true,
            ..Settings::default()
        }
    }

    fn default_gateway() -> Settings {
        Settings {
            default_gateway: true,
            ..gateway()
        }
    }

    fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
        IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
        }
    }

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route::new(dst.parse().unwrap(), gw.map(|text| text.parse().unwrap()))
    }

    fn ipam(ips: Vec<IpConfig>, routes: Vec<Route>) -> AddResult {
        AddResult {
            ips,
            routes,
            ..AddResult::default()
        }
    }

    #[test]
    fn result_without_address_is_an_error() {
        let error = Plan::new(&Settings::default(), &AddResult::default()).unwrap_err();
        assert_eq!(error.to_string(), "IPAM plugin returned missing IP config");
    }

    #[test]
    fn gateway_defaults_to_the_first_address_of_each_subnet() {
        let ipam = ipam(
            vec![
                ip("10.244.1.7/24", None),
                ip("fd00:1::7/64", None),
                ip("10.244.1.9/24", Some("10.244.1.254")),
            ],
            vec![route("10.244.0.0/16", None)],
        );
        let plan = Plan::new(&default_gateway(), &ipam).unwrap();
        let gateways: Vec<_> = plan.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(
            gateways,
            ["10.244.1.1/24", "fd00:1::1/64", "10.244.1.254/24"]
        );
        assert!(plan.ips.iter().all(|ip| ip.interface == Some(CONTAINER)));
        assert_eq!(
            plan.routes,
            [
                route("10.244.0.0/16", None),
                route("0.0.0.0/0", Some("10.244.1.1")),
                route("::/0", Some("fd00:1::1")),
            ]
        );
        assert_eq!(
            next_hop(&plan.routes[0], &plan.ips),
            Some("10.244.1.1".parse().unwrap())
        );
        assert!(plan.has_ipv6() && plan.has_ipv6_gateway());
    }

    #[test]
    fn default_route_of_ipam_is_kept() {
        let ipam = ipam(
            vec![ip("10.1.0.5/16", Some("10.1.0.1"))],
            vec![route("0.0.0.0/0", Some("10.1.0.9"))],
        );
        let plan = Plan::new(&default_gateway(), &ipam).unwrap();
        assert_eq!(plan.routes, [route("0.0.0.0/0", Some("10.1.0.9"))]);
    }

    #[test]
    fn no_gateway_is_derived_unless_the_bridge_is_the_gateway() {
        let ipam = ipam(
            vec![ip("10.1.0.5/16", None)],
            vec![route("0.0.0.0/0", None)],
        );
        let plan = Plan::new(&Settings::default(), &ipam).unwrap();
        assert_eq!(plan.ips[0].gateway, None);
        assert!(plan.gateways.is_empty());
        assert_eq!(plan.routes.len(), 1);
        assert_eq!(next_hop(&plan.routes[0], &plan.ips), None);
    }

    #[test]
    fn last_address_of_the_address_space_has_no_gateway() {
        let ipam = ipam(vec![ip("255.255.255.255/32", None)], Vec::new());
        let error = Plan::new(&gateway(), &ipam).unwrap_err();
        assert!(matches!(error, Error::NoGateway(_)));
    }
}
