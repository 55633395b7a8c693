//! What the kernel lacks: the reasons to skip scenarios that need it. The virtual machine of
//! `tests/vm` has all of it: there nothing is skipped for its kernel.

use crate::Host;
use std::env;

/// True in the virtual machine of `tests/vm`.
pub fn is_virtual_machine() -> bool {
    env::var_os("IN_VIRTUAL_MACHINE").is_some()
}

/// The reason to skip where the kernel lacks `feature`, which `probe` uses on a host of its own.
/// `area` is the test of `tests/vm` that runs the scenario.
pub fn without(feature: &str, area: &str, probe: &str) -> Option<String> {
    if is_virtual_machine() {
        return None;
    }
    let lacks = !Host::new("probe").try_sh(probe).status.success();
    lacks.then(|| {
        format!("needs kernel feature {feature}: runs in the virtual machine (area {area})")
    })
}

/// A bridge that filters VLANs.
pub fn without_vlan_filtering() -> Option<String> {
    let probe = "ip link add probe type bridge vlan_filtering 1";
    without("bridge VLAN filtering", "vlan", probe)
}

/// Devices of kind ipip and ip6tnl.
pub fn without_ipip() -> Option<String> {
    let probe = "ip link add probe type ipip local 127.0.0.1 remote any \
         && ip link add probe6 type ip6tnl mode ip6ip6 local ::1 remote any";
    without("ipip", "ipip", probe)
}

/// Devices of kind wireguard.
pub fn without_wireguard() -> Option<String> {
    let probe = "ip link add probe type wireguard";
    without("wireguard", "wireguard", probe)
}

/// Security associations of ESP.
pub fn without_esp() -> Option<String> {
    let probe = "ip xfrm state add src 127.0.0.1 dst 127.0.0.2 proto esp spi 1 reqid 11 mode tunnel \
         aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128";
    without("ESP", "ipsec", probe)
}

/// The queueing discipline netem.
pub fn without_netem() -> Option<String> {
    let probe = "tc qdisc add dev lo root netem loss 1%";
    without("netem", "netem", probe)
}
