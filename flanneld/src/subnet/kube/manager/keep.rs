//! Acquires this node's lease, and follows its object while the daemon runs.

use super::{Held, Manager, lock, publish::Published};
use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs, Leases},
    },
    subnet::{
        Session,
        kube::{
            Node, OwnNode,
            annotations::NodeLease,
            condition, own_lease,
            retry::{ApiRetry, WriteLimiter},
        },
    },
};
use jiff::Timestamp;
use std::{
    convert::Infallible,
    future,
    sync::{Arc, atomic::Ordering},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

impl Manager {
    /// Waits for a lease, then publishes how this node is reached. A node that has a lease does not
    /// wait: [`Manager::keep`] publishes, and follows the other nodes meanwhile.
    pub(super) async fn acquire_lease(&self, attrs: &LeaseAttrs, previous: Subnets) -> Lease {
        lock(&self.attrs).clone_from(attrs);
        if self.running.load(Ordering::Relaxed) {
            return self.lease_in_use(attrs, previous);
        }
        let mut own = self.own.subscribe();
        let mut retry = ApiRetry::default();
        let held = Held {
            subnets: previous,
            running: false,
        };
        loop {
            let (node, lease) = self.assigned(&mut own, attrs, held).await;
            if self.publish(&lease.attrs, &node, &mut retry).await {
                return lease;
            }
        }
    }

    /// Writes this node's annotations where they differ. False, after a wait, if that has to be
    /// tried again with the node as it is then.
    async fn publish(&self, attrs: &LeaseAttrs, node: &Node, retry: &mut ApiRetry) -> bool {
        let wanted = self.keys.published(attrs);
        match self.publisher.publish(wanted, node).await {
            Ok(Published::Unchanged | Published::Written) => {
                self.waits.lease.clear();
                *retry = ApiRetry::default();
                return true;
            }
            Ok(Published::Later(delay)) => sleep(delay).await,
            Err(failure) => {
                self.waits.lease.report(format!(
                    "for the API server {} to take this node's annotations: {failure}",
                    self.client.server()
                ));
                retry.wait(Some(&failure)).await;
            }
        }
        false
    }

    fn lease_in_use(&self, attrs: &LeaseAttrs, subnets: Subnets) -> Lease {
        let attrs = match &*self.own.borrow() {
            OwnNode::Present(node) => self.keys.overwritten(attrs, node).0,
            OwnNode::Unknown | OwnNode::Missing => attrs.clone(),
        };
        Lease {
            subnets,
            attrs,
            expiration: None,
        }
    }

    /// Keeps what this node published, its lease and its condition, until it is dropped.
    pub(super) async fn keep(&self, session: Session) -> Infallible {
        self.running.store(true, Ordering::Relaxed);
        tokio::select! {
            never = self.follow_object(&session.own) => never,
            never = self.pass_leases_on(&session.leases) => never,
            never = self.keep_condition(session.node_ready.clone()) => never,
            never = self.config.report_changes(&self.waits.config) => never,
        }
    }

    /// Follows this node's object: another podCIDR, an overwritten address, annotations that
    /// another party changed.
    async fn follow_object(&self, lease: &watch::Sender<Lease>) -> Infallible {
        let attrs = lock(&self.attrs).clone();
        let mut own = self.own.subscribe();
        let mut retry = ApiRetry::default();
        loop {
            let current = lease.borrow().clone();
            let held = Held {
                subnets: current.subnets,
                running: true,
            };
            let (node, assigned) = self.assigned(&mut own, &attrs, held).await;
            self.update_record(&node);
            if current != assigned {
                log_change(&current, &assigned);
                lease.send_replace(assigned.clone());
            }
            if self.publish(&assigned.attrs, &node, &mut retry).await
                && own.changed().await.is_err()
            {
                return future::pending().await;
            }
        }
    }

    async fn pass_leases_on(&self, session: &watch::Sender<Option<Leases>>) -> Infallible {
        let mut leases = self.leases.subscribe();
        loop {
            let snapshot = leases.borrow_and_update().clone();
            if let Some(snapshot) = snapshot {
                session.send_replace(Some(self.without_own(snapshot)));
            }
            if leases.changed().await.is_err() {
                return future::pending().await;
            }
        }
    }

    /// Without what this node's object says: the session has this node's lease, and the object may
    /// be out of date.
    fn without_own(&self, snapshot: Leases) -> Leases {
        let OwnNode::Present(node) = self.own.borrow().clone() else {
            return snapshot;
        };
        let families = own_lease::families(&self.config.config);
        let Ok(Some(NodeLease { lease: own, .. })) = self.keys.lease_of(&node, families) else {
            return snapshot;
        };
        let others = snapshot.iter().filter(|lease| ***lease != own);
        Arc::new(others.cloned().collect())
    }

    /// Sets the condition NetworkUnavailable to False once the node's own network is in place, and
    /// again if another party removes or flips it.
    async fn keep_condition(&self, mut node_ready: watch::Receiver<bool>) -> Infallible {
        if !self.set_condition {
            return future::pending().await;
        }
        let mut own = self.own.subscribe();
        let mut retry = ApiRetry::default();
        let mut limiter = WriteLimiter::default();
        let mut was_set = false;
        loop {
            if node_ready.wait_for(|ready| *ready).await.is_err() {
                return future::pending().await;
            }
            let due = match &*own.borrow_and_update() {
                OwnNode::Present(node) => {
                    condition::is_due(node.network_unavailable.as_ref(), was_set)
                }
                OwnNode::Unknown | OwnNode::Missing => false,
            };
            let delay = limiter.delay(Instant::now());
            if !due {
                self.waits.condition.clear();
                if own.changed().await.is_err() {
                    return future::pending().await;
                }
            } else if was_set && !delay.is_zero() {
                sleep(delay).await;
            } else {
                let body = condition::patch(Timestamp::now());
                match self.client.patch_node_status(&self.name, body).await {
                    Ok(()) => {
                        self.log_condition(was_set, &mut limiter);
                        was_set = true;
                        retry = ApiRetry::default();
                    }
                    Err(failure) => {
                        self.waits.condition.report(format!(
                            "for the API server {} to take the condition NetworkUnavailable=False of node {}: \
                             {failure}",
                            self.client.server(),
                            self.name
                        ));
                        retry.wait(Some(&failure)).await;
                    }
                }
            }
        }
    }

    fn log_condition(&self, was_set: bool, limiter: &mut WriteLimiter) {
        if !was_set {
            limiter.written(Instant::now());
            info!("node {}: NetworkUnavailable is False", self.name);
        } else if limiter.written_again(Instant::now()) {
            warn!(
                "node {}: another party removed or changed the condition NetworkUnavailable: set again",
                self.name
            );
        }
    }
}

fn log_change(held: &Lease, assigned: &Lease) {
    if held.subnets != assigned.subnets {
        warn!(
            "this node's subnet changed from {} to {}: restart the pods that run on it",
            held.subnets.cidrs(),
            assigned.subnets.cidrs()
        );
    }
    if held.attrs != assigned.attrs {
        let addresses = |lease: &Lease| {
            let LeaseAttrs {
                public_ip,
                public_ipv6,
                ..
            } = &lease.attrs;
            let v4 = public_ip.map(|ip| ip.to_string());
            let v6 = public_ipv6.map(|ip| ip.to_string());
            v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ")
        };
        info!(
            "peers now reach this node by {} (before: {})",
            addresses(assigned),
            addresses(held)
        );
    }
}
