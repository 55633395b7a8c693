//! The private network of the hosts: a bridge in its own namespace, with a veth to each eth0.

use crate::Host;

/// The address of the underlay's namespace.
pub const GATEWAY: &str = "172.31.0.254";
/// The IPv6 address of the underlay's namespace.
pub const GATEWAY6: &str = "fd31::fe";

/// The address of a host behind a NAT.
pub const INSIDE_NAT: &str = "192.168.77.2";
/// The same for IPv6.
pub const INSIDE_NAT6: &str = "fd77::2";

/// Hosts at 172.31.0.N/24 and fd31::N/64 (N from 1); their default gateway is the underlay's
/// namespace (.254, ::fe).
pub struct Underlay {
    /// The namespace of the bridge `underlay`.
    pub switch: Host,
    /// host1, host2, ...
    pub hosts: Vec<Host>,
}

impl Underlay {
    /// An underlay with `hosts` hosts.
    pub fn new(hosts: usize) -> Underlay {
        let switch = Host::new("underlay");
        // the packet filter of this namespace must not see frames that the bridge forwards
        switch.sh("ip link add underlay type bridge && ip link set underlay up \
            && ip addr add 172.31.0.254/24 dev underlay && ip addr add fd31::fe/64 dev underlay nodad \
            && for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done");
        let mut underlay = Underlay {
            switch,
            hosts: Vec::new(),
        };
        for _ in 0..hosts {
            underlay.add_host();
        }
        underlay
    }

    /// Adds a host.
    pub fn add_host(&mut self) -> &Host {
        let number = self.hosts.len() + 1;
        let host = Host::new(&format!("host{number}"));
        self.attach(&host, number);
        self.hosts.push(host);
        self.hosts.last().expect("just pushed")
    }

    /// Gives a host an eth0 with the addresses of this number and a default route.
    pub fn attach(&self, host: &Host, number: usize) {
        let ns = linux_net::NetNs::from(host.net_fd().try_clone().expect("fd"));
        self.switch.run(|| {
            let mut netlink = linux_net::Netlink::open().expect("netlink");
            let bridge = netlink
                .link_by_name("underlay")
                .expect("link")
                .expect("underlay")
                .index;
            let peer = linux_net::link::VethPeer::named("eth0");
            let request = linux_net::link::create_veth(
                &linux_net::link::VethPeer::named(&format!("host{number}")),
                None,
                Some(bridge),
                &peer,
                &ns,
            );
            netlink.request(&request).expect("veth");
        });
        host.sh(&format!(
            "ip link set eth0 up && ip addr add {}/24 dev eth0 && ip addr add {}/64 dev eth0 nodad \
             && ip route add default via {GATEWAY} && ip -6 route add default via {GATEWAY6}",
            ip(number),
            ip6(number)
        ));
    }

    /// Moves a host behind a router, which takes over the host's addresses and translates them to
    /// the host's new ones. Returns the router.
    pub fn put_behind_nat(&self, number: usize) -> Host {
        let host = &self.hosts[number - 1];
        host.sh("ip link del eth0");
        let router = Host::new("nat");
        self.attach(&router, number);
        veth(&router, "inside", host, "eth0");
        router.sh(&format!(
            "ip link set inside up && ip addr add 192.168.77.1/24 dev inside \
             && ip addr add fd77::1/64 dev inside nodad \
             && for family in 'ip {INSIDE_NAT}' 'ip6 {INSIDE_NAT6}'; do set -- $family; \
                nft add table $1 nat \
                && nft add chain $1 nat in '{{ type nat hook prerouting priority -100; }}' \
                && nft add rule $1 nat in iif eth0 meta l4proto '{{ tcp, udp }}' dnat to $2 \
                && nft add chain $1 nat out '{{ type nat hook postrouting priority 100; }}' \
                && nft add rule $1 nat out oif eth0 masquerade || exit 1; done"
        ));
        host.sh(&format!(
            "ip link set eth0 up && ip addr add {INSIDE_NAT}/24 dev eth0 \
             && ip addr add {INSIDE_NAT6}/64 dev eth0 nodad \
             && ip route add default via 192.168.77.1 && ip -6 route add default via fd77::1"
        ));
        router
    }
}

/// Two routers in a row: the host that they are put in front of keeps an MTU of 1500, as the others
/// have it.
pub struct SmallLink {
    /// The router that the other hosts see, at the address that the host had.
    pub outer: Host,
    /// The host's default gateway.
    pub inner: Host,
}

impl SmallLink {
    /// Neither router tells senders that a packet is too large.
    pub fn drop_icmp(&self) {
        for router in [&self.outer, &self.inner] {
            router.sh("nft add table inet quiet \
                 && nft add chain inet quiet out '{ type filter hook output priority 0; }' \
                 && nft add rule inet quiet out icmp type destination-unreachable drop \
                 && nft add rule inet quiet out icmpv6 type packet-too-big drop");
        }
    }

    /// How many packets were too large for the link: the routers fragmented them, or refused them,
    /// even where they said so to nobody.
    pub fn too_large(&self) -> u64 {
        let routers = [&self.outer, &self.inner].into_iter();
        let counters = routers.map(|router| {
            let v4 = router.sh(
                "awk '/^Ip:/ { if (NR % 2) for (i = 1; i <= NF; i++) name[i] = $i; \
                 else for (i = 1; i <= NF; i++) if (name[i] ~ /^Frag(OKs|Fails)$/) sum += $i } \
                 END { print sum }' /proc/net/snmp",
            );
            let v6 = router.sh(
                "awk '$1 ~ /^Ip6(FragOKs|FragFails|InTooBigErrors)$/ { sum += $2 } \
                 END { print sum }' /proc/net/snmp6",
            );
            let number = |text: String| text.trim().parse::<u64>().expect("a number");
            number(v4) + number(v6)
        });
        counters.sum()
    }
}

impl Underlay {
    /// Moves a host behind two routers, whose link has this MTU. Its addresses are [`INSIDE_NAT`]
    /// and [`INSIDE_NAT6`] then, and nothing is translated.
    pub fn put_behind_small_link(&self, number: usize, mtu: u32) -> SmallLink {
        let host = &self.hosts[number - 1];
        host.sh("ip link del eth0");
        let (outer, inner) = (Host::new("outer"), Host::new("inner"));
        self.attach(&outer, number);
        veth(&outer, "small", &inner, "small");
        veth(&inner, "inside", host, "eth0");
        outer.sh(&format!(
            "ip link set small mtu {mtu} up && ip addr add 192.168.78.1/24 dev small \
             && ip addr add fd78::1/64 dev small nodad \
             && ip route add 192.168.77.0/24 via 192.168.78.2 && ip route add fd77::/64 via fd78::2"
        ));
        inner.sh(&format!(
            "ip link set small mtu {mtu} up && ip addr add 192.168.78.2/24 dev small \
             && ip addr add fd78::2/64 dev small nodad \
             && ip link set inside up && ip addr add 192.168.77.1/24 dev inside \
             && ip addr add fd77::1/64 dev inside nodad \
             && ip route add default via 192.168.78.1 && ip route add default via fd78::1"
        ));
        host.sh(&format!(
            "ip link set eth0 up && ip addr add {INSIDE_NAT}/24 dev eth0 \
             && ip addr add {INSIDE_NAT6}/64 dev eth0 nodad \
             && ip route add default via 192.168.77.1 && ip -6 route add default via fd77::1"
        ));
        let others = self.hosts.iter().enumerate();
        let others = others.filter(|(index, _)| index + 1 != number);
        for host in others.map(|(_, host)| host).chain([&self.switch]) {
            host.sh(&format!(
                "ip route add 192.168.77.0/24 via {} && ip route add fd77::/64 via {}",
                ip(number),
                ip6(number)
            ));
        }
        SmallLink { outer, inner }
    }
}

/// A pair of links between two hosts.
fn veth(here: &Host, name: &str, there: &Host, other: &str) {
    let ns = linux_net::NetNs::from(there.net_fd().try_clone().expect("fd"));
    here.run(|| {
        let mut netlink = linux_net::Netlink::open().expect("netlink");
        let [one, two] = [name, other].map(linux_net::link::VethPeer::named);
        let request = linux_net::link::create_veth(&one, None, None, &two, &ns);
        netlink.request(&request).expect("veth");
    });
}

/// IPv4 address of host N (from 1).
pub fn ip(number: usize) -> String {
    format!("172.31.0.{number}")
}

/// IPv6 address of host N (from 1).
pub fn ip6(number: usize) -> String {
    format!("fd31::{number:x}")
}
