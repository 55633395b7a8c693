//! Who may change whose lease. Pure: an identity, a request and the leases with their owners give a
//! permission or a refusal.
//!
//! A lease is the node's that took it: the store keeps the name in that node's certificate beside
//! the lease. A lease without an owner (of an earlier version, of an import, or taken without TLS)
//! goes to the first certificate that acquires or renews it for the public IP that it has.

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
    /// A lease for a node; `previous` are the subnets that it says to have had.
    Acquire {
        node: Node<'a>,
        previous: Subnets,
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
         it, or an operator (`flanneld pki issue --operator`); if {owner} is gone, an operator revokes the lease"
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
        "lease {0} has no owner yet: only an operator may revoke it (`flanneld pki issue --operator`)"
    )]
    NoOwner(Subnets),
    /// Reservations are an operator's.
    #[error(
        "only an operator may change reservations: `flanneld pki issue --operator` makes a certificate"
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
                former: None,
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
        } => node.acquire(asking, previous),
        Request::Renew(key) => node.renew(key),
        Request::Revoke(key) => node.revoke(key),
        Request::Reserve => Err(Denied::Operator),
    }
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
    /// comes back with a new address.
    fn acquire(&self, asking: Node<'_>, previous: Subnets) -> Result<Permission, Denied> {
        let mut has_lease = false;
        for (key, held) in &self.state.leases {
            if asking.holds(&held.lease.attrs) {
                self.may_take(*key)?;
                has_lease = true;
            }
        }
        let own = match has_lease {
            true => None,
            false => self.own_lease(None),
        };
        let Some(own) = own else {
            return Ok(self.owning(None));
        };
        let lease = self.state.lease(&own);
        let attrs = lease.map(|lease| lease.attrs.clone());
        if self.unique || previous.overlaps(&own) {
            return Ok(self.owning(attrs));
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
        }
    }
}
