//! Waiting for the kernel, by its own notifications: nothing here sleeps and looks again.
use crate::{Error, bridge::Device, error::Step, pod::Sandbox};
use linux_net::{Netlink, monitor::Monitor};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// As long as upstream looks for the port to come up.
const PORT_LIMIT: Duration = Duration::from_millis(2550);
/// As long as upstream waits for duplicate address detection.
const DAD_LIMIT: Duration = Duration::from_secs(5);

/// The host end is operational: the bridge forwards what the pod sends.
pub fn port_up(host: &mut Netlink, port: &Device) -> Result<(), Error> {
    let failed = || format!("failed to lookup {:?}", port.name);
    let mut is_up = || -> Result<bool, Error> {
        let link = host.link_by_index(port.index).step(failed())?;
        Ok(link.is_some_and(|link| link.oper_up))
    };
    if is_up()? {
        return Ok(());
    }
    // the notification may come before anybody listens: so listen, and look once more
    let monitor = Monitor::open().step(failed())?;
    match until(monitor, PORT_LIMIT, || Ok(is_up()?.then_some(())))? {
        Some(()) => Ok(()),
        None => Err(Error::PortState("down")),
    }
}

/// No address of the container's interface is tentative any more.
pub fn addresses_settled(sandbox: &mut Sandbox, container: &Device) -> Result<(), Error> {
    let failed = || format!("could not list addresses of {:?}", container.name);
    let monitor = sandbox.ns.run(Monitor::open);
    let monitor = monitor.and_then(|monitor| monitor).step(failed())?;
    let netlink = &mut sandbox.netlink;
    let settled = || {
        let addresses = netlink.addresses(Some(container.index)).step(failed())?;
        if let Some(address) = addresses.iter().find(|address| address.dad_failed()) {
            return Err(Error::DuplicateAddress {
                ifname: container.name.clone(),
                address: address.net,
            });
        }
        let tentative = addresses.iter().any(|address| address.tentative());
        Ok((!tentative).then_some(()))
    };
    match until(monitor, DAD_LIMIT, settled)? {
        Some(()) => Ok(()),
        None => Err(Error::StillTentative(container.name.clone())),
    }
}

/// Asks now and after each notification; None after `limit`.
fn until<T>(
    mut monitor: Monitor,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let failed = "failed to wait for a change of the network";
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ask()? {
            return Ok(Some(value));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                return Err(cni_conf::Error::internal(format!("{failed}: {error}")).into());
            }
        }
        monitor.events().step(failed)?;
    }
}
