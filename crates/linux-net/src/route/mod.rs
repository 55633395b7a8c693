//! Routes (rtnetlink(7) RTM_NEWROUTE).

mod encap;
mod message;

use crate::{
    Netlink, Request, Result, family,
    netlink::{Malformed, Mode},
};
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric},
};
use nix::{
    errno::Errno,
    libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE},
};
use std::net::IpAddr;

pub use encap::Ip6Encap;
pub(crate) use message::{is_cached, read};
pub use netlink_packet_route::route::{RouteProtocol, RouteScope, RouteType};

/// RT_TABLE_MAIN (linux/rtnetlink.h).
pub const MAIN_TABLE: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// A route with at most one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// destination; /0 is the default route
    pub dst: IpNetwork,
    /// RTA_GATEWAY, or RTA_VIA where its family differs
    pub gateway: Option<IpAddr>,
    /// RTA_OIF: ifindex of the outgoing link
    pub oif: Option<u32>,
    /// RTNH_F_ONLINK: the gateway need not be in a connected network
    pub onlink: bool,
    /// RTA_TABLE, [`MAIN_TABLE`] or another
    pub table: u32,
    /// RTPROT_*: who made it
    pub protocol: RouteProtocol,
    /// RT_SCOPE_*
    pub scope: RouteScope,
    /// RTA_PRIORITY, 0: none
    pub priority: u32,
    /// RTA_PREFSRC: the source address of packets that this host sends
    pub prefsrc: Option<IpAddr>,
    /// RTN_*
    pub kind: RouteType,
    /// RTAX_MTU in bytes, 0: none
    pub mtu: u32,
    /// RTAX_ADVMSS in bytes, 0: none
    pub advmss: u32,
    /// the type of service that it is for, 0: any (IPv4)
    pub tos: u8,
    /// RTA_ENCAP of type IP6: how a device in external mode sends the packets
    pub encap: Option<Ip6Encap>,
    /// read only: it has attributes that are not above, as other metrics, several next hops, an
    /// other encapsulation, a next-hop object, a preference or an end
    pub other_attributes: bool,
}

impl Route {
    /// A unicast route of the main table: protocol boot, scope universe.
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            oif: None,
            onlink: false,
            table: MAIN_TABLE,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            priority: 0,
            prefsrc: None,
            kind: RouteType::Unicast,
            mtu: 0,
            advmss: 0,
            tos: 0,
            encap: None,
            other_attributes: false,
        }
    }
}

/// Adds a route: EEXIST if one to the same destination has the same priority.
pub fn add(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Create, "add", route)
}

/// Adds a route behind others to the same destination, as Go's bridge plugin does.
pub fn append(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Append, "append", route)
}

/// Adds a route, or replaces the first one to the same destination.
pub fn replace(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Replace, "replace", route)
}

/// Deletes the first route that agrees in everything that is given.
pub fn delete(route: &Route) -> Request {
    request(RTM_DELROUTE, Mode::Existing, "delete", route)
}

fn request(kind: u16, mode: Mode, verb: &str, route: &Route) -> Request {
    let mut what = format!("{verb} route {}", route.dst);
    if let Some(gateway) = route.gateway {
        what += &format!(" via {gateway}");
    }
    if let Some(encap) = route.encap {
        what += &format!(" encapsulated to {}", encap.dst);
    }
    if let Some(index) = route.oif {
        what += &format!(" on link {index}");
    }
    Request::new(kind, mode, &message(route), what)
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family::of(route.dst.ip());
    message.header.destination_prefix_length = route.dst.prefix();
    message.header.tos = route.tos;
    message.header.protocol = route.protocol;
    message.header.scope = route.scope;
    message.header.kind = route.kind;
    message.header.flags.set(RouteFlags::Onlink, route.onlink);
    let attributes = &mut message.attributes;
    if route.dst.prefix() > 0 {
        attributes.push(RouteAttribute::Destination(route.dst.network().into()));
    }
    attributes.extend(route.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
    attributes.extend(route.oif.map(RouteAttribute::Oif));
    attributes.extend(
        route
            .prefsrc
            .map(|ip| RouteAttribute::PrefSource(ip.into())),
    );
    attributes.extend(route.encap.iter().flat_map(Ip6Encap::attributes));
    if route.priority != 0 {
        attributes.push(RouteAttribute::Priority(route.priority));
    }
    let metrics: Vec<_> = [
        (route.mtu != 0).then_some(RouteMetric::Mtu(route.mtu)),
        (route.advmss != 0).then_some(RouteMetric::Advmss(route.advmss)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    set_table(&mut message, route.table);
    message
}

/// Tables above 255 do not fit the header.
fn set_table(message: &mut RouteMessage, table: u32) {
    match u8::try_from(table) {
        Ok(small) => message.header.table = small,
        Err(_) => {
            message.header.table = RouteHeader::RT_TABLE_UNSPEC;
            message.attributes.push(RouteAttribute::Table(table));
        }
    }
}

/// Selects routes of a dump; None selects all. The kernel filters where it checks dump requests
/// strictly, the rest is done here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// RTA_TABLE
    pub table: Option<u32>,
    /// RTA_OIF
    pub oif: Option<u32>,
    /// one family: IPv4 (false) or IPv6 (true)
    pub ipv6: Option<bool>,
}

impl Netlink {
    /// The routes that the filter selects. Those with several next hops have neither `oif` nor
    /// `gateway`.
    pub fn routes(&mut self, filter: Filter) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let ipv6 = family == AddressFamily::Inet6;
            if filter.ipv6.is_none_or(|wanted| wanted == ipv6) {
                found.append(&mut self.routes_of(family, filter)?);
            }
        }
        Ok(found)
    }

    fn routes_of(&mut self, family: AddressFamily, filter: Filter) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message
            .attributes
            .extend(filter.oif.map(RouteAttribute::Oif));
        if let Some(table) = filter.table {
            set_table(&mut message, table);
        }
        let ipv6 = family == AddressFamily::Inet6;
        let what = format!("list IPv{} routes", if ipv6 { 6 } else { 4 });
        let request = Request::new(RTM_GETROUTE, Mode::Dump, &message, what);
        let found = self.client.dump(&request, |kind, payload| {
            if kind != RTM_NEWROUTE {
                return Ok(None);
            }
            Ok(read(payload)?.filter(|route| {
                route.dst.is_ipv6() == ipv6
                    && filter.table.is_none_or(|table| route.table == table)
                    && filter.oif.is_none_or(|oif| route.oif == Some(oif))
            }))
        });
        match found {
            // a table that never had a route
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            found => found,
        }
    }

    /// The route that packets to an address take, with its `prefsrc` (`ip route get`).
    pub fn route_to(&mut self, ip: IpAddr) -> Result<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = family::of(ip);
        message.header.destination_prefix_length = if ip.is_ipv6() { 128 } else { 32 };
        // IPv4 names the main table without this flag; IPv6 names the right one and refuses the
        // flag
        message
            .header
            .flags
            .set(RouteFlags::LookupTable, ip.is_ipv4());
        message.attributes = vec![RouteAttribute::Destination(ip.into())];
        let what = format!("look up route to {ip}");
        let request = Request::new(RTM_GETROUTE, Mode::Existing, &message, what);
        self.client.get(&request, |_, payload| {
            read(payload)?.ok_or_else(|| Malformed("no IP route".into()))
        })
    }
}
