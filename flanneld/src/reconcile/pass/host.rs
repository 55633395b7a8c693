//! The host as a pass finds it: read anew, or as the last pass left it with what changed since.

use super::Reconciler;
use crate::{
    model::{entry::Entry, host_state::HostState, lease::Lease},
    reconcile::{
        apply::{Applied, IndexesByName},
        host_changes::HostChanges,
        observe::Dump,
        ownership::Ownership,
    },
    underlay::UnderlayRoutes,
};
use std::sync::Arc;
use tracing::debug;

impl Reconciler {
    pub(super) fn read_host(&mut self) -> linux_net::Result<Dump> {
        let device_names = self.transition.device_names();
        let can_reach = self.selector.can_reach;
        Dump::read(
            &mut self.kernel,
            &device_names,
            &self.settings.place,
            can_reach,
        )
    }

    /// The host after the last pass, with what changed since. None if the whole of it has to be
    /// read.
    pub(super) fn with_changes(
        &mut self,
        mut dump: Dump,
        changes: &HostChanges,
        own: &Lease,
    ) -> Option<Dump> {
        let ownership = self.ownership(own);
        for (route, change) in changes.routes() {
            if !dump.follow_other(route, *change) {
                debug!("the routes to {} are read again", route.dst);
                return None;
            }
        }
        for event in changes.entries() {
            dump.follow(event, &ownership);
        }
        if changes.has_addresses() {
            dump.read_addresses(&mut self.kernel).ok()?;
        }
        if changes.has_policies() {
            dump.read_policies(&mut self.kernel, &ownership).ok()?;
        }
        if changes.has_rules() {
            dump.read_rules(&mut self.kernel, &self.settings.place);
        }
        Some(dump)
    }

    /// Keeps the dump for passes that follow a change of the leases only, if the host is as wanted.
    pub(super) fn keep_dump(
        &mut self,
        dump: Dump,
        routes: Arc<UnderlayRoutes>,
        wanted: &Arc<HostState>,
        ownership: &Ownership,
        applied: &Applied,
    ) {
        let mut done = applied.done.iter();
        let same_devices = !done.any(|change| matches!(change.entry(), Entry::Device(..)));
        let settled = same_devices && self.backoff.next().is_none() && self.underlay.is_present();
        self.last = settled.then(|| {
            let mut dump = dump.settled(wanted.clone(), routes, ownership);
            dump.follow_own(&applied.done);
            dump
        });
    }

    pub(super) fn indexes_by_name(&self, dump: &Dump) -> IndexesByName {
        let underlay = &self.underlay.current;
        let mut indexes = dump.indexes_by_name();
        indexes.insert(underlay.name.as_str().into(), underlay.index);
        indexes
    }
}
