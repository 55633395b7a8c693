//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::{
    conf::Settings,
    names,
    plan::{Plan, next_hop},
};
use packet_filter::COMMENT_MAX;
use plugin::Call;

/// A call, and its prevResult as that of the IPAM plugin.
pub fn call(call: &Call) {
    let owner = call.attachment();
    assert!(names::nft_comment(&owner).len() <= COMMENT_MAX);
    assert!(names::alias(&owner).len() < 256);
    let Ok(settings) = Settings::of(call) else {
        return;
    };
    if let Ok(result) = call.prev_result()
        && let Ok(plan) = Plan::new(&settings, result)
    {
        assert_eq!(plan.ips.len(), result.ips.len());
        for route in &plan.routes {
            next_hop(route, &plan.ips);
        }
        let gateways = &plan.gateways;
        assert!(settings.gateway || gateways.is_empty(), "{gateways:?}");
    }
}
