//! The node that keeps the store, using it.
use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Store;
use crate::{
    lease::{Lease, LeaseAttrs, Leases},
    network_config::NetworkConfig,
    subnet::{BoxFuture, Error, Previous, SubnetManager},
};

/// The store of this machine, without HTTP in between.
pub struct Local {}

impl Local {
    /// `renew_margin`: how long before its end a lease is renewed.
    pub fn new(_store: Arc<Store>, _renew_margin: Duration) -> Local {
        todo!()
    }
}

impl SubnetManager for Local {
    fn describe(&self) -> String {
        todo!()
    }
    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        todo!()
    }
    fn acquire<'a>(
        &'a self,
        _attrs: &'a LeaseAttrs,
        _previous: Previous,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        todo!()
    }
    fn run<'a>(
        &'a self,
        _own: &'a Lease,
        _leases: watch::Sender<Option<Leases>>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        todo!()
    }
}
