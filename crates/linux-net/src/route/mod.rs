//! Routes (rtnetlink(7) RTM_NEWROUTE).

mod message;

use crate::{Netlink, Request, Result, netlink::Mode};
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric},
};
use nix::errno::Errno;
use std::net::IpAddr;

pub(crate) use message::{is_cached, is_ip, read};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// A unicast (or blackhole) route with at most one next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// destination; /0 is default
    pub dst: IpNetwork,
    /// next hop
    pub gateway: Option<IpAddr>,
    /// outgoing link
    pub oif: Option<u32>,
    /// RTNH_F_ONLINK
    pub onlink: bool,
    /// RT_TABLE_*, 254 main
    pub table: u32,
    /// RTPROT_*: 3 boot, 2 kernel
    pub protocol: u8,
    /// RT_SCOPE_*
    pub scope: u8,
    /// RTA_PRIORITY, 0 = none
    pub priority: u32,
    /// RTA_PREFSRC
    pub prefsrc: Option<IpAddr>,
    /// RTN_*: 1 unicast, 6 blackhole, 2 local
    pub kind: u8,
    /// RTAX_MTU, 0 = none
    pub mtu: u32,
    /// RTAX_ADVMSS, 0 = none
    pub advmss: u32,
}

impl Route {
    /// Unicast, main table, protocol boot, scope universe.
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            oif: None,
            onlink: false,
            table: 254,
            protocol: 3,
            scope: 0,
            priority: 0,
            prefsrc: None,
            kind: 1,
            mtu: 0,
            advmss: 0,
        }
    }
}

/// NLM_F_CREATE|EXCL
pub fn add(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Create, "add", route)
}

/// NLM_F_CREATE|APPEND, as Go's bridge plugin adds its routes
pub fn append(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Append, "append", route)
}

/// NLM_F_CREATE|REPLACE
pub fn replace(route: &Route) -> Request {
    request(RTM_NEWROUTE, Mode::Replace, "replace", route)
}

/// RTM_DELROUTE: the route that agrees in all that is given here.
pub fn delete(route: &Route) -> Request {
    request(RTM_DELROUTE, Mode::Existing, "delete", route)
}

fn request(kind: u16, mode: Mode, verb: &str, route: &Route) -> Request {
    let mut what = format!("{verb} route {}", route.dst);
    if let Some(gateway) = route.gateway {
        what += &format!(" via {gateway}");
    }
    if let Some(index) = route.oif {
        what += &format!(" on link {index}");
    }
    Request::new(kind, mode, &message(route), what)
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.dst.is_ipv6());
    message.header.destination_prefix_length = route.dst.prefix();
    message.header.protocol = route.protocol.into();
    message.header.scope = route.scope.into();
    message.header.kind = route.kind.into();
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

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

/// Limits a dump (done by the kernel under strict checking where it can, the rest here).
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// table
    pub table: Option<u32>,
    /// outgoing link
    pub oif: Option<u32>,
    /// only IPv4 (Some(false)) or IPv6 (Some(true))
    pub ipv6: Option<bool>,
}

impl Netlink {
    /// Routes; multipath routes and other shapes are given with oif None and no gateway.
    pub fn routes(&mut self, filter: Filter) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            if filter.ipv6.is_none_or(|wanted| wanted == ipv6) {
                found.append(&mut self.routes_of(ipv6, filter)?);
            }
        }
        Ok(found)
    }

    fn routes_of(&mut self, ipv6: bool, filter: Filter) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ipv6);
        message
            .attributes
            .extend(filter.oif.map(RouteAttribute::Oif));
        if let Some(table) = filter.table {
            set_table(&mut message, table);
        }
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
            // a table that nothing was ever put into
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            found => found,
        }
    }

    /// `ip route get IP`: the route, with prefsrc.
    pub fn route_to(&mut self, ip: IpAddr) -> Result<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ip.is_ipv6());
        message.header.destination_prefix_length = if ip.is_ipv6() { 128 } else { 32 };
        // without it IPv4's answer always names the main table; IPv6 names the right one and refuses the flag
        message
            .header
            .flags
            .set(RouteFlags::LookupTable, ip.is_ipv4());
        message.attributes = vec![RouteAttribute::Destination(ip.into())];
        let what = format!("look up route to {ip}");
        let request = Request::new(RTM_GETROUTE, Mode::Existing, &message, what);
        self.client.get(&request, |_, payload| {
            read(payload)?.ok_or_else(|| crate::netlink::Malformed("no IP route".into()))
        })
    }
}
