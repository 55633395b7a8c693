//! alloc: a lease only (upstream: pkg/backend/alloc). Something else moves the packets: a cloud's
//! route table, a router, or another program.

use super::{
    Backend, Error, Input, Plan,
    backend_type::{BackendType, Meaning},
};
use crate::{model::network_config::NetworkConfig, underlay::Underlay};
use std::sync::Arc;

pub(super) const TYPE: BackendType = BackendType {
    name: "alloc",
    build: |_, _| Ok(Arc::new(Alloc)),
    keys: &[],
    check: describe,
    owns_device: |_| false,
};

/// What leases carry: nothing, as upstream.
const LEASE_TYPE: &str = "";

fn describe(_: &NetworkConfig) -> Result<Meaning, Error> {
    Ok(Meaning {
        text: "alloc, a lease and no routes".to_owned(),
        devices: Vec::new(),
    })
}

/// The backend.
#[derive(Debug)]
struct Alloc;

impl Backend for Alloc {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn kind(&self) -> &'static str {
        LEASE_TYPE
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        underlay.mtu
    }

    /// Nothing: whether packets reach other nodes is not flanneld's to say.
    fn plan(&self, _input: &Input<'_>) -> Plan {
        Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        backend::{Input, Plan, fixtures},
        model::lease::Lease,
        underlay::{Underlay, UnderlayRoutes},
    };

    #[test]
    fn node_has_a_lease_and_no_state_whatever_the_others_are() {
        let config = fixtures::config(r#"{"Type":"Alloc"}"#);
        let backend = fixtures::backend(&config).unwrap();
        let underlay = Underlay {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 9001,
            address: Some([172, 31, 0, 1].into()),
            address_v6: None,
            public_ip: Some([192, 0, 2, 1].into()),
            public_ipv6: None,
        };
        assert_eq!(backend.pod_mtu(&underlay), 9001);
        let lease = |n: u8, kind: &str| Lease {
            subnets: format!("10.244.{n}.0-24&fd00:10:244:{n}::-64")
                .parse()
                .unwrap(),
            attrs: crate::model::lease::LeaseAttrs {
                backend_type: kind.to_owned(),
                ..backend.lease_attrs(&underlay)
            },
            expiration: None,
        };
        let own = lease(1, "");
        let text = serde_json::to_string(&own.attrs).unwrap();
        assert_eq!(text, r#"{"PublicIP":"192.0.2.1","PublicIPv6":null}"#);
        let leases = [own.clone(), lease(2, ""), lease(3, "vxlan")];
        let plan = backend.plan(&Input {
            config: &config,
            underlay: &underlay,
            own: &own,
            leases: &fixtures::decoded(&*backend, &leases),
            routes: &UnderlayRoutes::new(&[], |_| false),
        });
        assert_eq!(plan, Plan::default());
    }
}
