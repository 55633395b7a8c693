//! What earlier configurations left behind goes, once the present one has taken over.

use super::{Reconciler, Settings};
use crate::backend;
use linux_net::link;
use std::time::Instant;
use tracing::{info, warn};

impl Reconciler {
    /// Goes on without the earlier backends that no other node uses any more.
    pub(super) fn leave_unused_backends(&mut self) {
        let unused = self.transition.take_unused(Instant::now());
        if unused.is_empty() {
            return;
        }
        let names = self.transition.device_names();
        for backend in unused {
            info!("no node uses the backend {} any more", backend.name());
            let unused = backend.device_names().iter();
            for name in unused.filter(|name| !names.contains(name)) {
                // the process ends with its device
                self.settings.data_path.remove(name);
                self.settings.earlier.devices.push(name.clone());
            }
        }
        self.last = None;
        if !self.transition.has_earlier() {
            let Settings {
                node, subnet_file, ..
            } = &mut self.settings;
            node.forget_backends(subnet_file);
        }
    }

    /// Removes the devices of earlier configurations, once those of the present one have taken over
    /// the routes. One that cannot be removed is tried again at the next pass.
    pub(super) fn remove_earlier_devices(&mut self) {
        let netlink = &mut self.kernel.netlink;
        self.settings.earlier.devices.retain(|name| {
            let removed = netlink.link_by_name(name).and_then(|link| {
                if link.is_some_and(|link| backend::owns_device(&link)) {
                    netlink.request(&link::delete_by_name(name))?;
                    info!("deleted device {name} of an earlier configuration");
                }
                Ok(())
            });
            match removed {
                Err(error) if !error.is_absent() => {
                    warn!("cannot delete device {name} of an earlier configuration: {error}");
                    true
                }
                Ok(()) | Err(_) => false,
            }
        });
    }

    /// Removes this daemon's rules from where the configuration does not have them any more, and
    /// Go flanneld's, once the present ones are in place: no packet is without rules.
    pub(super) fn remove_stale_rules(&mut self) {
        let in_use = self.kernel.iptables_flavour();
        let Settings { place, earlier, .. } = &self.settings;
        self.stale_rules
            .remove(place, &earlier.rules, in_use, self.kernel.nft().ok());
    }
}
