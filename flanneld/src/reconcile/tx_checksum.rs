//! The checksum offload of vxlan devices: what the option and the host ask for.

use super::kernel::Kernel;
use crate::{
    best_effort::best_effort,
    model::{
        host_state::{DeviceKind, HostState},
        tx_checksum::{Trap, TxChecksumOffload},
    },
};
use std::fs;
use tracing::info;

/// The release of the kernel, as `uname -r` prints it.
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What was decided for the interface of the underlay.
#[derive(Debug)]
pub(super) struct TxChecksum {
    option: TxChecksumOffload,
    /// The interface, and what is wanted of devices over it.
    decided: Option<(String, Option<bool>)>,
}

impl TxChecksum {
    pub(super) fn new(option: TxChecksumOffload) -> TxChecksum {
        TxChecksum {
            option,
            decided: None,
        }
    }

    /// Adds it to the vxlan devices of a plan.
    pub(super) fn add_to(&mut self, state: &mut HostState, kernel: &Kernel, interface: &str) {
        let vxlan = |kind: &DeviceKind| matches!(kind, DeviceKind::Vxlan(_));
        let devices = state.devices.values_mut();
        let mut devices = devices.filter(|device| vxlan(&device.link.kind)).peekable();
        if devices.peek().is_none() {
            return;
        }
        let wanted = self.decide(kernel, interface);
        devices.for_each(|device| device.tx_checksum = wanted);
    }

    /// Looks for the trap once an interface.
    fn decide(&mut self, kernel: &Kernel, interface: &str) -> Option<bool> {
        if let Some((_, wanted)) = self.decided.as_ref().filter(|(of, _)| of == interface) {
            return *wanted;
        }
        let trap = (self.option == TxChecksumOffload::Auto)
            .then(|| find_trap(kernel, interface))
            .flatten();
        if let Some(trap) = &trap {
            info!(
                "{trap}: switching the checksum offload of vxlan devices off (-tx-checksum-offload)"
            );
        }
        let wanted = self.option.wanted(trap.as_ref());
        self.decided = Some((interface.to_owned(), wanted));
        wanted
    }
}

fn find_trap(kernel: &Kernel, interface: &str) -> Option<Trap> {
    let unknown = "an unknown one counts as right";
    let release = best_effort(fs::read_to_string(RELEASE), unknown).unwrap_or_default();
    let driver = best_effort(kernel.ethtool.driver(interface), unknown).unwrap_or_default();
    Trap::find(release.trim(), interface, &driver)
}
