//! What a peer's commands are given: both families of its lease together.

use super::command::Variables;
use crate::{
    backend::{Input, PeerData, PeerError, PlannedPeer, SkippedLease, own_families, peers},
    model::{
        Subnets,
        lease::{Lease, as_text, subnet_v4, subnet_v6},
        network_config::NetworkConfig,
    },
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// What identifies a peer's commands: its first subnet.
pub(super) type Key = IpNetwork;

/// What the commands of a peer depend on. In the node's record its JSON is that of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PeerInput {
    #[serde(
        rename = "Subnet",
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_text",
        deserialize_with = "subnet_v4"
    )]
    subnet: Option<Ipv4Network>,
    #[serde(
        rename = "IPv6Subnet",
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_text",
        deserialize_with = "subnet_v6"
    )]
    ipv6_subnet: Option<Ipv6Network>,
    #[serde(rename = "PublicIP", skip_serializing_if = "Option::is_none")]
    public_ip: Option<Ipv4Addr>,
    #[serde(rename = "PublicIPv6", skip_serializing_if = "Option::is_none")]
    public_ipv6: Option<Ipv6Addr>,
    /// Its backend data, for stdin.
    #[serde(
        rename = "Data",
        skip_serializing_if = "Option::is_none",
        with = "text"
    )]
    data: Option<Arc<str>>,
}

mod text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(
        text: &Option<Arc<str>>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match text {
            Some(text) => out.serialize_str(text),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        json: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(json)?.map(Arc::from))
    }
}

impl PeerInput {
    /// None without a subnet: the record of a node may be damaged.
    pub(super) fn key(&self) -> Option<Key> {
        let v6 = || self.ipv6_subnet.map(IpNetwork::from);
        self.subnet.map(IpNetwork::from).or_else(v6)
    }

    /// True if both are of the same node, as far as addresses tell.
    pub(super) fn shares_node(&self, other: &PeerInput) -> bool {
        self.public_ip.is_some() && self.public_ip == other.public_ip
            || self.public_ipv6.is_some() && self.public_ipv6 == other.public_ipv6
    }

    /// SUBNET, PUBLIC_IP, IPV6SUBNET and PUBLIC_IPV6; empty for a family that the peer has not.
    pub(super) fn variables(&self) -> Variables {
        vec![
            ("SUBNET", text_of(&self.subnet)),
            ("PUBLIC_IP", text_of(&self.public_ip)),
            ("IPV6SUBNET", text_of(&self.ipv6_subnet)),
            ("PUBLIC_IPV6", text_of(&self.public_ipv6)),
        ]
    }

    /// The backend data as a line, as upstream.
    pub(super) fn stdin(&self) -> String {
        format!("{}\n", self.data.as_deref().unwrap_or_default())
    }

    fn add(&mut self, peer: &PlannedPeer, data: Option<&Arc<str>>) {
        match peer.subnet {
            IpNetwork::V4(subnet) => self.subnet = Some(subnet),
            IpNetwork::V6(subnet) => self.ipv6_subnet = Some(subnet),
        }
        match peer.public_ip {
            IpAddr::V4(ip) => self.public_ip = Some(ip),
            IpAddr::V6(ip) => self.public_ipv6 = Some(ip),
        }
        if self.data.is_none() {
            self.data = data.cloned();
        }
    }
}

/// The variables of PostStartupCommand.
pub(super) fn own_variables(config: &NetworkConfig, own: &Lease) -> Variables {
    let Subnets { v4, v6 } = own.subnets;
    let attrs = &own.attrs;
    vec![
        ("NETWORK", text_of(&config.network)),
        ("SUBNET", text_of(&v4)),
        ("IPV6NETWORK", text_of(&config.ipv6_network)),
        ("IPV6SUBNET", text_of(&v6)),
        ("PUBLIC_IP", text_of(&attrs.public_ip)),
        ("PUBLIC_IPV6", text_of(&attrs.public_ipv6)),
    ]
}

fn text_of(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(String::new, ToString::to_string)
}

/// The peers of all families of this node, joined by their leases.
pub(super) fn inputs(
    input: &Input<'_>,
    kind: &'static str,
    planned: &mut Vec<PlannedPeer>,
    skipped: &mut Vec<SkippedLease>,
) -> BTreeMap<Key, PeerInput> {
    let mut usable = BTreeMap::<IpNetwork, (PlannedPeer, Option<&Arc<str>>)>::new();
    for own in own_families(input) {
        for (peer, data) in peers::usable(&own, kind, input.leases, skipped) {
            match text(data) {
                Ok(data) => {
                    usable.insert(peer.subnet, (peer, data));
                }
                Err(reason) => skipped.push(SkippedLease {
                    subnet: peer.subnet,
                    node: Some(peer.public_ip),
                    reason,
                }),
            }
        }
    }
    let mut inputs = BTreeMap::new();
    for lease in input.leases.iter() {
        let Subnets { v4, v6 } = lease.lease.subnets;
        let attrs = &lease.lease.attrs;
        let families = [
            (v4.map(IpNetwork::from), attrs.public_ip.map(IpAddr::from)),
            (v6.map(IpNetwork::from), attrs.public_ipv6.map(IpAddr::from)),
        ];
        let mut peer = PeerInput::default();
        for (subnet, public_ip) in families {
            // another lease may have the same subnet: the public address tells them apart
            let found = subnet.and_then(|subnet| usable.get(&subnet));
            let is_it = |(found, _): &&(PlannedPeer, _)| Some(found.public_ip) == public_ip;
            let found = found.filter(is_it).map(|(found, _)| found.subnet);
            if let Some((found, data)) = found.and_then(|subnet| usable.remove(&subnet)) {
                peer.add(&found, data);
                planned.push(found);
            }
        }
        if let Some(key) = peer.key() {
            inputs.insert(key, peer);
        }
    }
    inputs
}

fn text(data: &Result<PeerData, PeerError>) -> Result<Option<&Arc<str>>, PeerError> {
    match data {
        Ok(PeerData::Text(text)) => Ok(text.as_ref()),
        Ok(_) => Ok(None),
        Err(error) => Err(error.clone()),
    }
}
