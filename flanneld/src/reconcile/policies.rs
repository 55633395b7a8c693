//! Policies of IPsec: which are ours, and how they are read and changed. The kernel holds one for
//! each selector and direction; another program's in the place of ours is left and reported.

use super::{apply::Error, diff::Change, kernel::Kernel, ownership::Ownership};
use crate::model::{Family, entry::Entry};
use linux_net::xfrm::{self, Event, Policy, SecurityAssociation, Xfrm};
use nix::errno::Errno;
use std::collections::BTreeSet;

/// The number of our policies and their security associations, as upstream's.
pub(crate) const REQID: u32 = 11;

/// Every policy of the host. None on a kernel without IPsec.
pub(super) fn read(kernel: &mut Kernel) -> linux_net::Result<Vec<Policy>> {
    match kernel.xfrm().and_then(Xfrm::policies) {
        Err(error) if is_unsupported(&error) => Ok(Vec::new()),
        read => read,
    }
}

/// Every security association of the host. None on a kernel without IPsec.
pub(super) fn associations(kernel: &mut Kernel) -> linux_net::Result<Vec<SecurityAssociation>> {
    match kernel.xfrm().and_then(Xfrm::associations) {
        Err(error) if is_unsupported(&error) => Ok(Vec::new()),
        read => read,
    }
}

fn is_unsupported(error: &linux_net::Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
    )
}

/// Those that are ours.
pub(super) fn ours(policies: &[Policy], ownership: &Ownership) -> BTreeSet<Policy> {
    let is_ours = |policy: &&Policy| is_ours(policy, &ownership.families);
    policies.iter().filter(is_ours).cloned().collect()
}

/// A tunnel of ESP with our number between two parts of the pod network, and nothing that flanneld
/// and Go flannel do not set.
pub(crate) fn is_ours(policy: &Policy, families: &[Family]) -> bool {
    has_our_shape(policy)
        && !policy.altered
        && families.iter().any(|family| {
            [policy.src, policy.dst]
                .into_iter()
                .all(|subnet| family.contains(subnet))
        })
}

/// True if the policy has our number and is in the place of one of ours.
fn has_our_shape(policy: &Policy) -> bool {
    let template = policy.template.as_ref();
    !policy.narrowed && template.is_some_and(|template| template.reqid == REQID)
}

/// True if the host may differ from the wanted policies after this event.
pub(super) fn contradicts(event: &Event, wanted: &BTreeSet<Policy>, ownership: &Ownership) -> bool {
    match event {
        Event::Policy(policy, added) if is_ours(policy, &ownership.families) => {
            *added != wanted.contains(policy)
        }
        // another one in the place of ours comes or goes
        Event::Policy(policy, _) => {
            let place = policy.place();
            !policy.narrowed && wanted.iter().any(|wanted| wanted.place() == place)
        }
        Event::PoliciesFlushed => !wanted.is_empty(),
        Event::Association(..) | Event::AssociationsGone => false,
        Event::Overrun => true,
    }
}

/// Makes changes of policies. Puts add what is missing; what is there under the same selector is
/// replaced if it has our number.
pub(super) fn change(
    kernel: &mut Kernel,
    changes: Vec<Change>,
) -> Vec<(Change, Result<(), Error>)> {
    if changes.is_empty() {
        return Vec::new();
    }
    let xfrm = match kernel.xfrm() {
        Ok(xfrm) => xfrm,
        Err(error) => {
            let reason = error.to_string();
            let failed = |change| (change, Err(Error::NoIpsec(reason.clone())));
            return changes.into_iter().map(failed).collect();
        }
    };
    let with_policy = |change: &Change| match (change, change.entry()) {
        (Change::Put(_), Entry::Policy(policy)) => Some(xfrm::add(policy)),
        (Change::Delete(_), Entry::Policy(policy)) => Some(xfrm::delete(policy)),
        _ => None,
    };
    let (changes, requests): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .filter_map(|change| with_policy(&change).map(|request| (change, request)))
        .unzip();
    let answers = xfrm.batch(&requests);
    let mut results = Vec::with_capacity(changes.len());
    for (change, answer) in changes.into_iter().zip(answers) {
        let result = match (answer, &change) {
            (Err(error), Change::Put(Entry::Policy(policy))) if error.is_exists() => {
                replace(xfrm, policy)
            }
            (Err(error), Change::Delete(_)) if error.is_absent() => Ok(()),
            (answer, _) => answer.map_err(Error::from),
        };
        results.push((change, result));
    }
    results
}

/// Replaces a policy that has our number.
fn replace(xfrm: &mut Xfrm, policy: &Policy) -> Result<(), Error> {
    let found = xfrm.policy(policy)?;
    if !has_our_shape(&found) {
        return Err(Error::ForeignPolicy(found));
    }
    Ok(xfrm.request(&xfrm::update(policy))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fixtures;
    use linux_net::xfrm::{Direction, Template};

    fn ownership() -> Ownership {
        Ownership {
            backends: vec![fixtures::vxlan()],
            families: vec![Family {
                network: "10.244.0.0/16".parse().unwrap(),
                subnet: "10.244.1.0/24".parse().unwrap(),
            }],
            earlier_devices: Vec::new(),
            direct_routes_over: None,
        }
    }

    fn policy(src: &str, dst: &str) -> Policy {
        let template = Template {
            src: [192, 0, 2, 1].into(),
            dst: [192, 0, 2, 2].into(),
            reqid: REQID,
            optional: false,
        };
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        Policy::new(src, dst, Direction::Out, template)
    }

    fn own() -> Policy {
        policy("10.244.1.0/24", "10.244.2.0/24")
    }

    fn with_reqid(reqid: u32) -> Policy {
        let mut policy = own();
        policy.template.as_mut().unwrap().reqid = reqid;
        policy
    }

    #[test]
    fn ours_are_tunnels_with_our_number_inside_the_network() {
        let strangers = [
            with_reqid(1),
            policy("10.244.1.0/24", "192.168.0.0/24"),
            policy("0.0.0.0/0", "10.244.2.0/24"),
            Policy {
                template: None,
                ..own()
            },
            Policy {
                narrowed: true,
                ..own()
            },
            Policy {
                altered: true,
                ..own()
            },
        ];
        let stale = policy("10.244.1.0/24", "10.244.9.0/24");
        let all: Vec<_> = strangers
            .into_iter()
            .chain([own(), stale.clone()])
            .collect();
        assert_eq!(ours(&all, &ownership()), [own(), stale].into());
    }

    #[test]
    fn events_that_contradict_the_wanted_policies_are_found() {
        let wanted = BTreeSet::from([own()]);
        let contradicts = |event: &Event| contradicts(event, &wanted, &ownership());
        let stale = policy("10.244.1.0/24", "10.244.9.0/24");
        let elsewhere = policy("10.1.0.0/24", "10.2.0.0/24");
        for event in [
            Event::Policy(own(), false),
            Event::Policy(stale.clone(), true),
            // one of another program took the place of ours, or left it
            Event::Policy(with_reqid(1), true),
            Event::Policy(with_reqid(1), false),
            Event::Policy(
                Policy {
                    altered: true,
                    ..own()
                },
                true,
            ),
            Event::PoliciesFlushed,
            Event::Overrun,
        ] {
            assert!(contradicts(&event), "{event:?}");
        }
        for event in [
            Event::Policy(own(), true),
            Event::Policy(stale, false),
            Event::Policy(elsewhere, true),
            Event::Policy(
                Policy {
                    narrowed: true,
                    ..own()
                },
                true,
            ),
            Event::AssociationsGone,
        ] {
            assert!(!contradicts(&event), "{event:?}");
        }
        let none = BTreeSet::new();
        assert!(!super::contradicts(
            &Event::PoliciesFlushed,
            &none,
            &ownership()
        ));
    }
}
