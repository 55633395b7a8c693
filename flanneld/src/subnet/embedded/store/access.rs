//! Who may change whose lease. Pure: an identity, a request and the leases with their owners give a
//! permission or a refusal.
//!
//! A lease is the node's that took it: the store keeps the name in that node's certificate beside
//! the lease. A lease without an owner (of an earlier version, of an import, or taken without TLS)
//! goes to the first certificate that acquires or renews it for the public IP that it has.
//!
//! A node that was not connected for a while is gone: another node that has its public IP then gets
//! a lease. It gets other subnets, so that whoever cuts a node off does not receive the packets for
//! its pods.

use super::state::{Change, State};
use crate::{
    model::{Subnets, lease::LeaseAttrs},
    pki::Identity,
    subnet::alloc::Node,
};
use std::sync::Arc;

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Caller {
    /// May do everything: without TLS, with `-insecure`, and this machine's own node, whose leases
    /// get this owner.
    Trusted(Option<Arc<str>>),
    /// The holder of a certificate.
    Certificate(Identity),
}

/// A change that somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// A lease for a node; `previous` are the subnets that it says to have had. `gone` is the lease
    /// of its public address, if the process that held it was not connected for long.
    Acquire {
        node: Node<'a>,
        previous: Subnets,
        gone: Option<Subnets>,
    },
    /// New attributes or a new end.
    Renew(Subnets),
    Revoke(Subnets),
    /// A reservation is made or ends.
    Reserve,
}

/// What is permitted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Permission {
    /// The owner of the lease from now on; None leaves it.
    owner: Option<Arc<str>>,
    /// The node holds a lease by these public addresses, and has others now.
    pub(super) former: Option<LeaseAttrs>,
    /// The lease of another node, which is gone and whose public address this node has now, ends.
    pub(super) ended: Option<Subnets>,
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The certificate has neither a URI nor a common name.
    #[error(
        "this certificate names no node, and may only read: `flanneld pki issue NAME` makes one that names a node"
    )]
    Unnamed,
    /// The lease is another node's.
    #[error(
        "lease {subnets} of {address} belongs to {owner}, and this is the certificate of {caller}: {owner} may change \
         it, or an operator (`flanneld pki issue -operator`); if {owner} is gone, the address is free 15 minutes after \
         its last connection, or when an operator revokes the lease"
    )]
    OtherNode {
        subnets: Subnets,
        address: String,
        owner: Arc<str>,
        caller: String,
    },
    /// A name holds one lease.
    #[error(
        "{name} already holds lease {subnets} as {address}: a certificate is for one node, `flanneld pki issue NAME` \
         makes one for each"
    )]
    HasLease {
        name: String,
        subnets: Subnets,
        address: String,
    },
    /// A lease that no node owns.
    #[error(
        "lease {0} has no owner yet: only an operator may revoke it (`flanneld pki issue -operator`)"
    )]
    NoOwner(Subnets),
    /// Reservations are an operator's.
    #[error(
        "only an operator may change reservations: `flanneld pki issue -operator` makes a certificate"
    )]
    Operator,
}

impl Permission {
    /// The change that makes the caller the owner of a lease, if it is not yet.
    pub(super) fn ownership(self, state: &State, key: Subnets) -> Option<Change> {
        let owner = self.owner?;
        (state.owners.get(&key) != Some(&owner)).then_some(Change::Own(key, owner))
    }
}

/// Decides about a request.
pub(super) fn authorize(
    caller: &Caller,
    request: Request<'_>,
    state: &State,
) -> Result<Permission, Denied> {
    let (name, unique) = match caller {
        Caller::Trusted(owner) => {
            return Ok(Permission {
                owner: owner
                    .clone()
                    .filter(|_| matches!(request, Request::Acquire { .. } | Request::Renew(_))),
                ..Permission::default()
            });
        }
        Caller::Certificate(Identity::Operator) => return Ok(Permission::default()),
        Caller::Certificate(Identity::Unnamed) => return Err(Denied::Unnamed),
        Caller::Certificate(Identity::Node { name, unique }) => (name.as_str(), *unique),
    };
    let node = Certified {
        name,
        unique,
        state,
    };
    match request {
        Request::Acquire {
            node: asking,
            previous,
            gone,
        } => node.acquire(asking, previous, gone),
        Request::Renew(key) => node.renew(key),
        Request::Revoke(key) => node.revoke(key),
        Request::Reserve => Err(Denied::Operator),
    }
}

/// The lease of the only node that the caller can be, by its certificate.
pub(super) fn owned_by(caller: &Caller, state: &State) -> Option<Subnets> {
    let Caller::Certificate(Identity::Node { name, unique: true }) = caller else {
        return None;
    };
    let node = Certified {
        name,
        unique: true,
        state,
    };
    node.own_lease(None)
}

/// A node with a certificate.
struct Certified<'a> {
    name: &'a str,
    unique: bool,
    state: &'a State,
}

impl Certified<'_> {
    /// Every lease that the request would take or replace must be the caller's, or have no owner.
    /// Where there is none, the lease that its name holds by another address is the caller's: it
    /// comes back with a new address. The lease of a node that is `gone` is not taken: it ends.
    fn acquire(
        &self,
        asking: Node<'_>,
        previous: Subnets,
        gone: Option<Subnets>,
    ) -> Result<Permission, Denied> {
        let gone = gone.filter(|key| self.is_of_another(key));
        let mut has_lease = false;
        for (key, held) in &self.state.leases {
            if asking.holds(&held.lease.attrs) && Some(*key) != gone {
                self.may_take(*key)?;
                has_lease = true;
            }
        }
        let permission = |former| Permission {
            ended: gone,
            ..self.owning(former)
        };
        let own = match has_lease {
            true => None,
            false => self.own_lease(None),
        };
        let Some(own) = own else {
            return Ok(permission(None));
        };
        let lease = self.state.lease(&own);
        let attrs = lease.map(|lease| lease.attrs.clone());
        if self.unique || previous.overlaps(&own) {
            return Ok(permission(attrs));
        }
        Err(Denied::HasLease {
            name: self.name.to_owned(),
            subnets: own,
            address: attrs.map(|attrs| attrs.node()).unwrap_or_default(),
        })
    }

    fn renew(&self, key: Subnets) -> Result<Permission, Denied> {
        self.may_take(key)?;
        Ok(self.owning(None))
    }

    fn revoke(&self, key: Subnets) -> Result<Permission, Denied> {
        self.may_take(key)?;
        match self.state.owners.contains_key(&key) || self.state.lease(&key).is_none() {
            true => Ok(Permission::default()),
            false => Err(Denied::NoOwner(key)),
        }
    }

    /// The lease is the caller's, or has no owner and the caller may have it.
    fn may_take(&self, key: Subnets) -> Result<(), Denied> {
        let Some(lease) = self.state.lease(&key) else {
            return Ok(());
        };
        match self.state.owners.get(&key) {
            Some(owner) if **owner == *self.name => Ok(()),
            Some(owner) => Err(Denied::OtherNode {
                subnets: key,
                address: lease.attrs.node(),
                owner: owner.clone(),
                caller: self.name.to_owned(),
            }),
            // nodes that share a certificate, which earlier versions allowed, keep their leases
            None if !self.unique => Ok(()),
            None => match self.own_lease(Some(key)) {
                None => Ok(()),
                Some(own) => Err(Denied::HasLease {
                    name: self.name.to_owned(),
                    subnets: own,
                    address: self
                        .state
                        .lease(&own)
                        .map(|lease| lease.attrs.node())
                        .unwrap_or_default(),
                }),
            },
        }
    }

    fn is_of_another(&self, key: &Subnets) -> bool {
        let owner = self.state.owners.get(key);
        owner.is_some_and(|owner| **owner != *self.name)
    }

    /// A lease that the name owns, other than this one.
    fn own_lease(&self, other_than: Option<Subnets>) -> Option<Subnets> {
        let mut owned = self.state.owners.iter();
        let found = owned.find(|(key, owner)| {
            ***owner == *self.name && Some(**key) != other_than && self.state.lease(key).is_some()
        });
        found.map(|(key, _)| *key)
    }

    fn owning(&self, former: Option<LeaseAttrs>) -> Permission {
        Permission {
            owner: Some(self.name.into()),
            former,
            ended: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{lease::Lease, network_config::NetworkConfig},
        subnet::{TTL, alloc::Reservation, embedded::store::Store},
    };
    use std::{
        path::Path,
        thread,
        time::{Duration, Instant},
    };
    use tempfile::TempDir;

    fn open(path: &Path, config: &str, grace: Duration) -> Arc<Store> {
        let mut config = NetworkConfig::parse(config).unwrap();
        config.check_subnets().unwrap();
        Store::open_with(path, config, TTL, grace).unwrap()
    }

    fn open_for(folder: &TempDir, grace: Duration) -> Arc<Store> {
        let path = folder.path().join("leases.redb");
        open(&path, r#"{"Network":"10.3.0.0/16"}"#, grace)
    }

    fn node(n: u8) -> LeaseAttrs {
        LeaseAttrs {
            public_ip: Some([192, 0, 2, n].into()),
            backend_type: "vxlan".into(),
            ..LeaseAttrs::default()
        }
    }

    fn certificate(name: &str) -> Caller {
        Caller::Certificate(Identity::Node {
            name: name.to_owned(),
            unique: true,
        })
    }

    /// Polls until the condition holds.
    fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the store answers a node whose certificate has this name, and that has this address.
    fn acquire_as(
        store: &Store,
        name: &str,
        attrs: LeaseAttrs,
        had: Subnets,
    ) -> Result<Lease, String> {
        let caller = certificate(name);
        let session = format!("process of {name}");
        let lease = store
            .access(&caller)
            .acquire_as(Some(&session), attrs, had, None);
        lease.map_err(|error| error.to_string())
    }

    #[test]
    fn address_of_a_node_that_is_gone_is_free_after_a_while_and_its_subnet_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let none = Subnets::default();
        let grace = Duration::from_secs(2);
        let store = open_for(&folder, grace);
        let connect = |name: &str| store.connect(format!("process of {name}"));
        let connected = connect("a");
        let old = acquire_as(&store, "a", node(1), none).unwrap();
        let refused = |what: &str| {
            let error = acquire_as(&store, "thief", node(1), old.subnets).unwrap_err();
            assert!(error.contains("belongs to a"), "{what}: {error}");
        };
        // a moment's disconnection frees nothing
        for _ in 0..3 {
            let error = acquire_as(&store, "thief", node(1), old.subnets).unwrap_err();
            assert!(error.contains("another node that runs"), "{error}");
        }
        drop(connected);
        refused("just disconnected");
        drop(connect("a"));
        refused("was back for a moment");
        let next = || acquire_as(&store, "b", node(1), old.subnets);
        eventually("the address is free", || next().is_ok());
        let new = next().unwrap();
        assert_ne!(new.subnets, old.subnets, "the pods of a are not b's");
        assert_eq!(store.lease(&old.subnets).0, None);
        // a is back: the address is b's now
        let connected = connect("b");
        assert!(acquire_as(&store, "a", node(1), old.subnets).is_err());
        let elsewhere = acquire_as(&store, "a", node(2), old.subnets).unwrap();
        assert_eq!(elsewhere.subnets, old.subnets);
        drop((connected, store));
        let store = open_for(&folder, TTL);
        assert_eq!(store.lease(&new.subnets).0.unwrap().attrs, node(1));
        let error = acquire_as(&store, "a", node(1), none).unwrap_err();
        assert!(error.contains("belongs to b"), "after a restart: {error}");
    }

    #[test]
    fn running_node_keeps_its_subnet_when_it_takes_over_the_address_of_one_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_for(&folder, Duration::ZERO);
        let none = Subnets::default();
        let dead = acquire_as(&store, "dead", node(1), none).unwrap();
        let running = acquire_as(&store, "runs", node(2), none).unwrap();
        let moved = acquire_as(&store, "runs", node(1), none).unwrap();
        assert_eq!(moved.subnets, running.subnets);
        let left = store.leases();
        assert!(left.len() == 1 && left[0].attrs == node(1), "{left:?}");
        assert_eq!(store.lease(&dead.subnets).0, None);
    }

    /// As on a copy of its disk.
    #[test]
    fn certificate_of_a_node_that_runs_gives_its_lease_to_no_other_process() {
        let (folder, none) = (tempfile::tempdir().unwrap(), Subnets::default());
        let store = open_for(&folder, TTL);
        let connected = store.connect("process of a".to_owned());
        let lease = acquire_as(&store, "a", node(1), none).unwrap();
        let caller = certificate("a");
        let copy = || {
            let access = store.access(&caller);
            access.acquire_as(Some("copy"), node(2), none, None)
        };
        let error = copy().unwrap_err().to_string();
        assert!(
            error.starts_with("the node at 192.0.2.1 runs with this certificate"),
            "{error}"
        );
        assert_eq!(store.leases().len(), 1);
        // its own process has another address
        let moved = acquire_as(&store, "a", node(3), none).unwrap();
        assert_eq!(moved.subnets, lease.subnets);
        drop(connected);
        assert_eq!(copy().unwrap().subnets, lease.subnets);
    }

    #[test]
    fn last_subnet_and_a_reserved_one_are_taken_over() {
        let (folder, none) = (tempfile::tempdir().unwrap(), Subnets::default());
        let one = r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.7.0","SubnetMax":"10.3.7.0"}"#;
        let store = open(&folder.path().join("one.redb"), one, Duration::ZERO);
        let old = acquire_as(&store, "a", node(1), none).unwrap();
        let new = acquire_as(&store, "b", node(1), none).unwrap();
        assert_eq!(new.subnets, old.subnets);
        // the operator has decided what the address gets
        let store = open_for(&folder, Duration::ZERO);
        let old = acquire_as(&store, "a", node(1), none).unwrap();
        let (subnets, attrs) = (old.subnets, node(1));
        store.reserve(Reservation { subnets, attrs }).unwrap();
        let new = acquire_as(&store, "b", node(1), none).unwrap();
        assert_eq!(new.subnets, old.subnets);
    }
}
