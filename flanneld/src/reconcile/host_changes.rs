//! What may differ on the host from what the last pass left: as little as the notifications allow,
//! so that a pass reads no more than that.

use linux_net::{
    monitor::{Event, RouteChange},
    route::Route,
};

/// Notified entries. If there are more, the host is read.
const MAX_ENTRIES: usize = 4096;

/// What has changed, or may have.
#[derive(Debug, Default)]
pub(crate) struct HostChanges {
    everything: bool,
    rules: bool,
    policies: bool,
    addresses: bool,
    entries: Vec<Event>,
    /// Of other programs, outside of the pod network.
    routes: Vec<(Route, RouteChange)>,
}

impl HostChanges {
    /// Anything may have changed: the host is read.
    pub(crate) fn everything() -> HostChanges {
        let mut changes = HostChanges::default();
        changes.add_everything();
        changes
    }

    /// Adds everything else.
    pub(crate) fn add_everything(&mut self) {
        *self = HostChanges {
            everything: true,
            ..HostChanges::default()
        };
    }

    /// Links are as they were, and addresses may be more.
    pub(crate) fn add_addresses(&mut self) {
        self.addresses = true;
    }

    /// A route of another program is as the event says.
    pub(crate) fn add_route(&mut self, route: Route, change: RouteChange) {
        if self.routes.len() >= MAX_ENTRIES {
            self.add_everything();
        } else if !self.everything {
            self.routes.push((route, change));
        }
    }

    /// Drops what follows from no notification that needs a pass: the state has it already, except
    /// for routes of other programs.
    pub(crate) fn keep_routes(&mut self) {
        self.entries.clear();
    }

    /// A rule of ours may have changed.
    pub(crate) fn add_rules(&mut self) {
        self.rules = true;
    }

    /// A policy of IPsec that concerns us may have changed.
    pub(crate) fn add_policies(&mut self) {
        self.policies = true;
    }

    /// A route, a neighbour or an FDB entry is as the event says.
    pub(crate) fn add_entry(&mut self, event: Event) {
        if self.entries.len() >= MAX_ENTRIES {
            self.add_everything();
        } else if !self.everything {
            self.entries.push(event);
        }
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.everything
    }

    pub(crate) fn has_rules(&self) -> bool {
        self.rules
    }

    pub(crate) fn has_policies(&self) -> bool {
        self.policies
    }

    pub(crate) fn has_addresses(&self) -> bool {
        self.addresses
    }

    /// In the order of the changes.
    pub(crate) fn routes(&self) -> &[(Route, RouteChange)] {
        &self.routes
    }

    /// In the order of the changes.
    pub(crate) fn entries(&self) -> &[Event] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_entries_are_everything() {
        let mut changes = HostChanges::default();
        let event = Event::Route(
            Route::new("10.244.2.0/24".parse().unwrap()),
            RouteChange::Deleted,
        );
        for _ in 0..MAX_ENTRIES {
            changes.add_entry(event.clone());
        }
        assert!(!changes.is_everything() && changes.entries().len() == MAX_ENTRIES);
        changes.add_entry(event.clone());
        changes.add_entry(event);
        assert!(changes.is_everything() && changes.entries().is_empty());
    }
}
