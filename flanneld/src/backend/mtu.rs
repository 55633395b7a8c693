//! `Backend.MTU`, which several backends have: the length of a packet on the underlay, in bytes. 0
//! is that of the underlay's interface.

use super::Error;
use crate::{
    model::network_config::NetworkConfig,
    underlay::{IPV6_MIN_MTU, Underlay},
};

/// The least MTU of IPv4 (RFC 791), in bytes.
const LEAST: u32 = 68;

/// Fails if `overhead` bytes of headers leave pods less than their address families need.
pub(super) fn check(mtu: u32, overhead: u32, config: &NetworkConfig) -> Result<(), Error> {
    let minimum = match config.enable_ipv6 {
        true => IPV6_MIN_MTU,
        false => LEAST,
    };
    let needed = minimum + overhead;
    if mtu != 0 && mtu < needed {
        return Err(Error::MtuTooSmall {
            mtu,
            minimum,
            needed,
        });
    }
    Ok(())
}

/// The length of a packet on this underlay: at most its interface's MTU.
pub(super) fn outer(mtu: u32, underlay: &Underlay) -> u32 {
    match mtu {
        0 => underlay.mtu,
        mtu => mtu.min(underlay.mtu),
    }
}
