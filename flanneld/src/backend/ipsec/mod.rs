//! ipsec: ESP tunnels between the nodes (upstream: pkg/backend/ipsec). The plan has policies of the
//! kernel, which say what has to be encrypted; charon, a program of strongSwan, negotiates the keys
//! with the other nodes' and gives them to the kernel.

mod charon;

pub(crate) use charon::{fuzz, retire};

use super::{
    Backend, Error as BackendError, Input, KeyExchange, OwnFamily, Plan, PlannedPeer, Tunnel,
    backend_type::{BackendType, Meaning, NodeIdentity},
    own_families, peers, secret,
};
use crate::{
    model::{host_state::HostState, network_config::NetworkConfig},
    reconcile::REQID,
    subnet::BoxFuture,
    underlay::Underlay,
};
use charon::Charon;
use go_compat::json;
use linux_net::xfrm::{Direction, Policy, Template};
use serde::Deserialize;
use serde_json::Value;
use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc};

/// Outer IPv4 (20) and ESP with padding, initialisation vector and the longest check value (57),
/// in bytes, as upstream counts them.
const OVERHEAD: u32 = 77;
/// The UDP header of UDPEncap, in bytes.
const UDP: u32 = 8;
/// What an outer IPv6 header is longer, in bytes.
const IPV6: u32 = 20;
/// The shortest PSK, in characters, as upstream.
const PSK_MIN: usize = 96;
/// Longer than any proposal, in bytes.
const PROPOSAL_MAX: usize = 255;
/// Upstream's: AES-GCM, and a key exchange of its own for the keys of each tunnel.
const ESP_PROPOSAL: &str = "aes128gcm16-sha256-prfsha256-ecp256";

pub(super) const TYPE: BackendType = BackendType {
    name: "ipsec",
    build: |config, node| Ok(Arc::new(Ipsec::new(config, node)?)),
    keys: &["PSK", "UDPEncap", "ESPProposal"],
    check: |config| Ok(Keys::read(config)?.describe()),
    owns_device: |_| false,
};

/// Why the configuration cannot be used, or why no keys are negotiated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A key of `Backend` has the wrong type.
    #[error("error decoding IPSEC backend config: {0}")]
    Decode(#[source] json::Error),
    /// `PSK` is shorter than [`PSK_MIN`]; the text is upstream's.
    #[error(
        "config error, password is too short (Backend.PSK has {length} characters, at least {PSK_MIN} are needed; make \
         one with: dd if=/dev/urandom count=48 bs=1 status=none | xxd -p -c 48)"
    )]
    ShortPsk { length: usize },
    /// `ESPProposal` is no word.
    #[error(
        "Backend.ESPProposal {0:?} is not a proposal of strongSwan, such as {ESP_PROPOSAL}: letters, digits and - only"
    )]
    Proposal(String),
    /// Charon cannot be started.
    #[error(transparent)]
    Charon(#[from] charon::Error),
}

/// The secret that all nodes have. It is never shown.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
struct Psk(#[serde(deserialize_with = "secret")] String);

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(not shown)")
    }
}

/// The keys of `Backend`, named as upstream names them.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Keys {
    #[serde(rename = "PSK")]
    psk: Psk,
    #[serde(rename = "UDPEncap")]
    udp_encap: bool,
    #[serde(rename = "ESPProposal")]
    esp_proposal: String,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            psk: Psk::default(),
            udp_encap: false,
            esp_proposal: ESP_PROPOSAL.to_owned(),
        }
    }
}

impl Keys {
    fn read(config: &NetworkConfig) -> Result<Keys, Error> {
        let backend = Value::Object(config.backend.clone());
        let keys: Keys = json::from_value(backend).map_err(Error::Decode)?;
        let length = keys.psk.0.chars().count();
        if length < PSK_MIN {
            return Err(Error::ShortPsk { length });
        }
        let proposal = &keys.esp_proposal;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if proposal.is_empty() || proposal.len() > PROPOSAL_MAX || !proposal.chars().all(is_part) {
            let shown = proposal.chars().take(PROPOSAL_MAX).collect();
            return Err(Error::Proposal(shown));
        }
        Ok(keys)
    }

    fn describe(&self) -> Meaning {
        let encap = if self.udp_encap {
            ", ESP in UDP port 4500"
        } else {
            ""
        };
        Meaning {
            text: format!(
                "ipsec, ESP tunnels with {}{encap}, keys by strongSwan's charon",
                self.esp_proposal
            ),
            devices: Vec::new(),
        }
    }
}

/// The backend.
#[derive(Debug)]
struct Ipsec {
    keys: Keys,
    /// Pods' packets have to fit an outer IPv6 header too.
    ipv6: bool,
    /// Where charon's configuration and its socket are.
    folder: PathBuf,
}

impl Ipsec {
    fn new(config: &NetworkConfig, node: &NodeIdentity<'_>) -> Result<Ipsec, Error> {
        Ok(Ipsec {
            keys: Keys::read(config)?,
            ipv6: config.enable_ipv6,
            folder: charon::folder(node.run_folder),
        })
    }
}

impl Backend for Ipsec {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        let udp = if self.keys.udp_encap { UDP } else { 0 };
        let ipv6 = if self.ipv6 { IPV6 } else { 0 };
        underlay.mtu.saturating_sub(OVERHEAD + udp + ipv6)
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        for own in own_families(input) {
            for (peer, _) in peers::usable(&own, self.kind(), input.leases, &mut plan.skipped) {
                plan.state.policies.extend(policies(&own, &peer));
                plan.peers.push(peer);
            }
        }
        plan
    }

    fn negotiates_keys(&self) -> bool {
        true
    }

    fn key_exchange(
        &self,
        exchange: KeyExchange,
    ) -> BoxFuture<'_, Result<Infallible, BackendError>> {
        Box::pin(async {
            let charon = Charon::new(&self.folder, &self.keys);
            match charon.keep(exchange).await {
                Ok(never) => match never {},
                Err(error) => Err(Error::from(error).into()),
            }
        })
    }
}

/// What is encrypted to a peer and from it. Packets that do not come through the tunnel, and those
/// for which there is no key yet, are dropped.
fn policies(own: &OwnFamily, peer: &PlannedPeer) -> [Policy; 3] {
    let (here, there) = (own.family.subnet, peer.subnet);
    let template = |src, dst| Template {
        src,
        dst,
        reqid: REQID,
        optional: false,
    };
    // never the public IP: behind a NAT no packet with that source leaves the host
    let outward = template(own.local, peer.public_ip);
    let inward = template(peer.public_ip, own.local);
    [
        Policy::new(here, there, Direction::Out, outward),
        Policy::new(there, here, Direction::In, inward.clone()),
        Policy::new(there, here, Direction::Forward, inward),
    ]
}

/// The tunnels that a plan's policies need keys for.
pub(crate) fn tunnels(state: &HostState) -> Arc<[Tunnel]> {
    let tunnel = |policy: &Policy| {
        let template = policy.template.as_ref()?;
        (policy.direction == Direction::In).then_some(Tunnel {
            own_address: template.dst,
            own_subnet: policy.dst,
            peer_address: template.src,
            peer_subnet: policy.src,
        })
    };
    state.policies.iter().filter_map(tunnel).collect()
}

#[cfg(test)]
mod tests;
