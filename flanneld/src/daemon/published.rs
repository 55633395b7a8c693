//! Whether the store has the addresses by which this node is reached: peers send to those that it
//! has.

use crate::model::lease::Lease;
use std::{net::IpAddr, sync::Arc};

/// What is wrong with this node's lease among those of the store, for messages. `own` has the
/// present addresses.
pub(super) fn fault(own: &Lease, leases: &[Arc<Lease>], store: &str) -> Option<String> {
    let known = leases.iter().find(|lease| lease.subnets == own.subnets)?;
    let [own, known] = [&own.attrs, &known.attrs].map(|attrs| {
        [
            attrs.public_ip.map(IpAddr::V4),
            attrs.public_ipv6.map(IpAddr::V6),
        ]
    });
    let mut families = own.into_iter().zip(known);
    let (own, known) = families.find_map(|(own, known)| {
        let own = own.filter(|_| own != known)?;
        Some((own, known))
    })?;
    let known = known.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
    Some(format!(
        "this node is reached at {own}, and the {store} has {known}: peers send there until it takes the new address"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lease::LeaseAttrs;

    fn lease(n: u8, v4: Option<&str>, v6: Option<&str>) -> Arc<Lease> {
        Arc::new(Lease {
            subnets: format!("10.3.{n}.0-24").parse().unwrap(),
            attrs: LeaseAttrs {
                public_ip: v4.map(|ip| ip.parse().unwrap()),
                public_ipv6: v6.map(|ip| ip.parse().unwrap()),
                ..LeaseAttrs::default()
            },
            expiration: None,
        })
    }

    #[test]
    fn address_that_the_store_does_not_have_is_a_fault() {
        let dual = lease(1, Some("192.0.2.1"), Some("2001:db8::1"));
        let other = lease(2, Some("192.0.2.9"), None);
        let check = |known: &Arc<Lease>| fault(&dual, &[other.clone(), known.clone()], "store");
        assert_eq!(check(&dual), None);
        assert_eq!(check(&other), None, "the store has no lease of this node");
        let text = check(&lease(1, Some("192.0.2.7"), Some("2001:db8::1"))).unwrap();
        assert!(
            text.contains("reached at 192.0.2.1, and the store has 192.0.2.7:"),
            "{text}"
        );
        let text = check(&lease(1, Some("192.0.2.1"), None)).unwrap();
        assert!(
            text.contains("reached at 2001:db8::1, and the store has none:"),
            "{text}"
        );
        // a family that the network does not have
        let v6 = lease(1, None, Some("2001:db8::1"));
        assert_eq!(fault(&v6, std::slice::from_ref(&dual), "store"), None);
    }
}
