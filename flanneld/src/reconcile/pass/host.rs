//! The host as a pass finds it, read anew or as the last pass left it with what changed since, and
//! how the pass changes it.

use super::Reconciler;
use crate::{
    model::{entry::Entry, host_state::HostState, lease::Lease},
    reconcile::{
        apply::{self, Applied, IndexesByName},
        diff::Change,
        host_changes::HostChanges,
        observe::Dump,
        ownership::Ownership,
        transition::Handshake,
    },
    underlay::UnderlayRoutes,
};
use std::sync::Arc;
use tracing::debug;

impl Reconciler {
    /// The host as it was after the last pass, with what changed since; else it is read anew.
    pub(super) fn current_host(
        &mut self,
        changes: &HostChanges,
        own: &Lease,
    ) -> linux_net::Result<Dump> {
        let last = self.last.take().filter(|_| !changes.is_everything());
        match last.and_then(|dump| self.with_changes(dump, changes, own)) {
            Some(dump) => Ok(dump),
            None => self.read_host(),
        }
    }

    /// What came of it, and the ifindexes of the host's devices afterwards.
    pub(super) fn change_host(
        &mut self,
        changes: Vec<Change>,
        handshakes: Vec<Handshake>,
        dump: &Dump,
        ownership: &Ownership,
    ) -> (Applied, IndexesByName) {
        let mut indexes = self.indexes_by_name(dump);
        let applied = apply::apply(
            &mut self.kernel,
            changes,
            &mut indexes,
            &self.former_indexes,
            &mut self.backoff,
        );
        apply::begin_handshakes(&mut self.kernel, handshakes, &indexes);
        let ours = indexes.iter();
        let ours = ours.filter(|(name, _)| ownership.device(name).is_some());
        let ours = ours.map(|(name, index)| (name.clone(), *index));
        self.former_indexes.extend(ours);
        (applied, indexes)
    }

    fn read_host(&mut self) -> linux_net::Result<Dump> {
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
    fn with_changes(&mut self, mut dump: Dump, changes: &HostChanges, own: &Lease) -> Option<Dump> {
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

    fn indexes_by_name(&self, dump: &Dump) -> IndexesByName {
        let underlay = &self.underlay.current;
        let mut indexes = dump.indexes_by_name();
        indexes.insert(underlay.name.as_str().into(), underlay.index);
        indexes
    }
}
