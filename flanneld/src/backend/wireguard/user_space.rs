//! Where the kernel has no WireGuard: the same devices are TUN devices, and processes of ours have
//! the keys and the peers.

use super::{Mode, Plan, Settings};
use crate::{
    backend::Input,
    data_path::{self, EngineConfig},
};
use linux_net::wireguard::Wireguard;
use std::{fmt, net::IpAddr, sync::Arc};
use tracing::{info, warn};

/// Why WireGuard runs in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserSpace {
    /// The configuration says so.
    Asked,
    /// The kernel has no WireGuard.
    Missing,
}

impl fmt::Display for UserSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UserSpace::Asked => "Backend.Userspace is true",
            UserSpace::Missing => "this kernel has no WireGuard",
        })
    }
}

/// Whether WireGuard runs in user space, and why. Asking the kernel loads its module.
pub(super) fn chosen(settings: &Settings) -> Option<UserSpace> {
    let chosen = match settings.user_space {
        true => Some(UserSpace::Asked),
        false => match Wireguard::open() {
            Ok(_) => None,
            Err(error) if error.is_absent() => Some(UserSpace::Missing),
            Err(error) => {
                warn!("whether the kernel has WireGuard is unknown, it is tried: {error}");
                None
            }
        },
    };
    match chosen {
        Some(why) => info!("WireGuard runs in user space: {why}"),
        None => info!("WireGuard runs in the kernel"),
    }
    chosen
}

/// Moves the keys and peers of every device of the plan to the configuration of its process.
pub(super) fn serve(mode: Mode, input: &Input<'_>, plan: &mut Plan) {
    let separate = mode == Mode::Separate;
    for (name, device) in &mut plan.state.devices {
        let Some(wireguard) = device.wireguard.take() else {
            continue;
        };
        let Some(engine) = data_path::wireguard::Device::of(&wireguard, device.link.mtu) else {
            continue;
        };
        let inside = || device.addresses.iter().map(|net| net.ip());
        let v4 = inside().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let v6 = inside().find_map(|ip| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip),
        });
        // a device of its own travels by its family; the one for both by those that this node has
        let by = |inside: bool, outside: bool| if separate { inside } else { outside };
        let port = |used: bool| used.then_some(wireguard.interface.listen_port);
        plan.data_path.push(Arc::new(data_path::Config {
            device: name.to_string(),
            address: v4,
            address_v6: v6,
            port: port(by(v4.is_some(), input.underlay.public_ip.is_some())),
            port_v6: port(by(v6.is_some(), input.underlay.public_ipv6.is_some())),
            keeps_peers: false,
            engine: EngineConfig::Wireguard(engine),
        }));
    }
}
