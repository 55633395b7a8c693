//! Leases: which node holds which subnet, and how it is reached.
use ipnetwork::{Ipv4Network, Ipv6Network};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::SystemTime,
};

/// What a node tells about itself. JSON (order, omissions) as upstream's etcd values: PublicIP, PublicIPv6, BackendType, BackendData, BackendV6Data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LeaseAttrs {
    /// `0.0.0.0` upstream writes for nodes without IPv4 is None here
    pub public_ip: Option<Ipv4Addr>,
    /// reachable address, IPv6
    pub public_ipv6: Option<Ipv6Addr>,
    /// "vxlan"
    pub backend_type: String,
    /// `{"VNI":1,"VtepMAC":"..."}`
    pub backend_data: Option<serde_json::Value>,
    /// the same for IPv6
    pub backend_v6_data: Option<serde_json::Value>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// IPv4 subnet, e.g. 10.244.1.0/24
    pub subnet: Option<Ipv4Network>,
    /// IPv6 subnet
    pub ipv6_subnet: Option<Ipv6Network>,
    /// attributes
    pub attrs: LeaseAttrs,
    /// None: a reservation that does not end
    pub expiration: Option<SystemTime>,
}

/// The whole current picture: every lease of the network, our own too, in no order.
pub type Leases = std::sync::Arc<Vec<Lease>>;
