//! Waits for the kernel's notifications, without polling at intervals.

use crate::{Error, device::Device, error::Context, sandbox::Sandbox};
use linux_net::{Netlink, monitor::Monitor};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// Upstream's total time for the port to come up.
const PORT_TIMEOUT: Duration = Duration::from_millis(2550);
/// Upstream's total time for duplicate address detection.
const DAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the port is operational: then the bridge forwards the pod's frames.
pub(crate) fn port_up(host: &mut Netlink, port: &Device) -> Result<(), Error> {
    let failed = || format!("failed to lookup {:?}", port.name);
    let mut is_up = || -> Result<bool, Error> {
        let link = host.link_by_index(port.index).context(failed())?;
        Ok(link.is_some_and(|link| link.oper_up))
    };
    if is_up()? {
        return Ok(());
    }
    // `wait_for` checks again after the subscription: the notification may have come before
    let monitor = Monitor::open().context(failed())?;
    match wait_for(monitor, PORT_TIMEOUT, is_up)? {
        true => Ok(()),
        false => Err(Error::PortDown),
    }
}

/// Waits until no address of the container's interface is tentative.
pub(crate) fn addresses_settled(sandbox: &mut Sandbox, container: &Device) -> Result<(), Error> {
    let failed = || format!("could not list addresses of {:?}", container.name);
    let monitor = sandbox.ns.run(Monitor::open).flatten().context(failed())?;
    let settled = || {
        let addresses = sandbox.netlink.addresses(Some(container.index));
        let addresses = addresses.context(failed())?;
        if let Some(address) = addresses.iter().find(|address| address.dad_failed()) {
            return Err(Error::DuplicateAddress {
                ifname: container.name.clone(),
                address: address.net,
            });
        }
        Ok(!addresses.iter().any(|address| address.tentative()))
    };
    match wait_for(monitor, DAD_TIMEOUT, settled)? {
        true => Ok(()),
        false => Err(Error::StillTentative(container.name.clone())),
    }
}

/// Checks the condition now and after each notification. False: it did not hold in time.
fn wait_for(
    mut monitor: Monitor,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    let failed = "failed to wait for a change of the network";
    let deadline = Instant::now() + timeout;
    while !condition()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(errno) if errno != Errno::EINTR => {
                return Err(io::Error::from(errno)).context(failed);
            }
            _ => {}
        }
        monitor.events().context(failed)?;
    }
    Ok(true)
}
