//! What is to be done for one pod: worked out from the settings and what IPAM gave, without touching anything.
use crate::{Error, conf::Settings};
use cni_conf::{AddResult, IpConfig, Route};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ANY_V4: Ipv4Network = match Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0) {
    Some(net) => net,
    None => unreachable!(),
};
const ANY_V6: Ipv6Network = match Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0) {
    Some(net) => net,
    None => unreachable!(),
};

/// The container's interface in the result: bridge, host end, container.
pub const CONTAINER: usize = 2;

/// Addresses and routes of a pod, and what the bridge needs so that they work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// as the result shows them, each with its gateway
    pub ips: Vec<IpConfig>,
    /// as the result shows them, a default route added where it was asked for
    pub routes: Vec<Route>,
    /// the addresses that the bridge has to have
    pub gateways: Vec<IpNetwork>,
}

impl Plan {
    /// Gateways default to the first address of the subnet where the bridge is one.
    pub fn new(settings: &Settings, ipam: &AddResult) -> Result<Plan, Error> {
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
            let gateway = match ip.gateway {
                Some(gateway) => gateway,
                None => first_address(ip.address).ok_or(Error::NoGateway(ip.address))?,
            };
            ip.gateway = Some(gateway);
            let address = IpNetwork::new(gateway, ip.address.prefix())
                .map_err(|_| Error::NoGateway(ip.address))?;
            if !plan.gateways.contains(&address) {
                plan.gateways.push(address);
            }
        }
        if settings.default_gateway {
            plan.add_default_routes();
        }
        Ok(plan)
    }

    /// One per family, unless IPAM gave one with a gateway.
    fn add_default_routes(&mut self) {
        for ip in &self.ips {
            let everything: IpNetwork = match ip.address {
                IpNetwork::V4(_) => IpNetwork::V4(ANY_V4),
                IpNetwork::V6(_) => IpNetwork::V6(ANY_V6),
            };
            let present = |route: &Route| route.gw.is_some() && route.dst == everything;
            if !self.routes.iter().any(present) {
                self.routes.push(Route::new(everything, ip.gateway));
            }
        }
    }

    /// The next hop of a route: its own, else the first gateway of its family.
    pub fn next_hop(&self, route: &Route) -> Option<IpAddr> {
        route.gw.or_else(|| {
            self.ips
                .iter()
                .filter_map(|ip| ip.gateway)
                .find(|gateway| gateway.is_ipv6() == route.dst.is_ipv6())
        })
    }

    /// There is an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ips.iter().any(|ip| ip.address.is_ipv6())
    }

    /// There is an IPv6 gateway: routes through it need addresses that are no longer tentative.
    pub fn has_ipv6_gateway(&self) -> bool {
        self.ips
            .iter()
            .filter_map(|ip| ip.gateway)
            .any(|gateway| gateway.is_ipv6())
    }
}

/// The network's address plus one; None past the end of the address space.
fn first_address(address: IpNetwork) -> Option<IpAddr> {
    match address.network() {
        IpAddr::V4(ip) => Some(u32::from(ip).checked_add(1)?).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(ip) => Some(u128::from(ip).checked_add(1)?).map(|n| IpAddr::V6(n.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    fn settings(json: &str) -> Settings {
        json::from_slice::<crate::conf::Keys>(json.as_bytes())
            .unwrap()
            .check(String::new(), true)
            .unwrap()
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
    fn no_address_is_an_error() {
        let error = Plan::new(&settings("{}"), &AddResult::default()).unwrap_err();
        assert_eq!(error.to_string(), "IPAM plugin returned missing IP config");
    }

    #[test]
    fn a_gateway_bridge_serves_the_first_address_of_each_subnet() {
        let ipam = ipam(
            vec![
                ip("10.244.1.7/24", None),
                ip("fd00:1::7/64", None),
                ip("10.244.1.9/24", Some("10.244.1.254")),
            ],
            vec![route("10.244.0.0/16", None)],
        );
        let plan = Plan::new(&settings(r#"{"isDefaultGateway":true}"#), &ipam).unwrap();
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
            plan.next_hop(&plan.routes[0]),
            Some("10.244.1.1".parse().unwrap())
        );
        assert!(plan.has_ipv6() && plan.has_ipv6_gateway());
    }

    #[test]
    fn a_default_route_of_ipams_is_kept() {
        let ipam = ipam(
            vec![ip("10.1.0.5/16", Some("10.1.0.1"))],
            vec![route("0.0.0.0/0", Some("10.1.0.9"))],
        );
        let plan = Plan::new(&settings(r#"{"isDefaultGateway":true}"#), &ipam).unwrap();
        assert_eq!(plan.routes, [route("0.0.0.0/0", Some("10.1.0.9"))]);
    }

    #[test]
    fn without_a_gateway_bridge_nothing_is_invented() {
        let ipam = ipam(
            vec![ip("10.1.0.5/16", None)],
            vec![route("0.0.0.0/0", None)],
        );
        let plan = Plan::new(&settings("{}"), &ipam).unwrap();
        assert_eq!(plan.ips[0].gateway, None);
        assert!(plan.gateways.is_empty());
        assert_eq!(plan.routes.len(), 1);
        assert_eq!(plan.next_hop(&plan.routes[0]), None);
    }

    #[test]
    fn the_end_of_the_address_space_has_no_gateway() {
        let ipam = ipam(vec![ip("255.255.255.255/32", None)], Vec::new());
        let error = Plan::new(&settings(r#"{"isGateway":true}"#), &ipam).unwrap_err();
        assert!(matches!(error, Error::NoGateway(_)));
    }
}
