//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::conf;
use plugin::Call;

/// A call: each gateway is of the family of its address.
pub fn call(call: &Call) {
    let Ok(result) = conf::read(call) else {
        return;
    };
    for ip in result.ips {
        let same = |gateway: std::net::IpAddr| gateway.is_ipv6() == ip.address.is_ipv6();
        assert!(ip.gateway.is_none_or(same), "{ip:?}");
    }
}
