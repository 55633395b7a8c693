//! The `tuning` plugin: sets sysctls of a container's namespace and settings of one of its
//! interfaces; DEL restores the settings of the interface. It is chained after the plugin that
//! creates the interface.

mod allowlist;
mod backup;
mod conf;
mod error;
pub mod fuzz;
mod sysctls;

use backup::Backup;
use cni_conf::{AddResult, Code, Error, Interface, Version};
use conf::Conf;
use error::Failure;
use linux_net::{NetNs, Netlink, link};
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The entry in the registry of plugins.
pub static PLUGIN: Tuning = Tuning;

/// The plugin.
#[derive(Debug)]
pub struct Tuning;

impl Plugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::read(call)?;
        check_sysctls(&conf)?;
        let mut result = call.prev_result()?.clone();
        let netns = open(&call.netns)?;
        run_inside(&netns, || conf.sysctls.write(&call.ifname))?;
        if conf.link.is_set() {
            tune(call, &conf, &netns)?;
        }
        update_result(&mut result, call, &conf);
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        conf.sysctls.check()?;
        call.prev_result()?;
        let netns = open(&call.netns)?;
        run_inside(&netns, || conf.sysctls.compare(&call.ifname))?;
        Ok(compare_link(call, &conf, &netns)?)
    }

    /// Restores what ADD found, if the interface still exists. Then the backup is removed.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let folder = conf::state_folder(call)?;
        let file = folder.file(&call.container_id, &call.ifname);
        let restored = match folder.read(&file)? {
            Some(backup) => restore(call, &backup),
            None => Ok(()),
        };
        if let Err(error) = restored {
            // the runtime deletes the interface next; the file stays for a second DEL or GC
            plugin::warn(format_args!(
                "tuning: cannot restore {}: {error}",
                call.ifname
            ));
            return Ok(());
        }
        folder.remove(&file)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        if let Some(valid) = call.valid_attachments() {
            backup::collect(&conf::state_folder(call)?, &call.net.name, &valid)?;
        }
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        Conf::read(call)
            .and_then(|conf| check_sysctls(&conf))
            .map_err(|failure| Error::new(Code::NotAvailable, Error::from(failure).msg))
    }
}

fn check_sysctls(conf: &Conf) -> Result<(), Failure> {
    conf.sysctls.check()?;
    allowlist::check(&conf.sysctls)
}

fn open(netns: &str) -> Result<NetNs, Failure> {
    Ok(NetNs::open(Path::new(netns))?)
}

/// Changes the interface in the result as ADD changed it in the kernel.
fn update_result(result: &mut AddResult, call: &Call, conf: &Conf) {
    let is_tuned = |interface: &&mut Interface| interface.name == call.ifname;
    for interface in result.interfaces.iter_mut().filter(is_tuned) {
        if let Some(mac) = &conf.link.mac {
            interface.mac.clone_from(mac);
        }
        // results have an MTU since 1.1.0
        if call.net.version >= Version::V1_1_0
            && let Some(mtu) = conf.link.mtu
        {
            interface.mtu = u32::try_from(mtu).ok();
        }
    }
}

/// /proc/sys shows the calling thread's namespace.
fn run_inside(netns: &NetNs, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    netns.run(work)?
}

/// Writes the backup and changes the interface in one request.
fn tune(call: &Call, conf: &Conf, netns: &NetNs) -> Result<(), Failure> {
    let mut net = Netlink::open_in(netns)?;
    let link = net.link_by_name(&call.ifname)?;
    let link = link.ok_or_else(|| Failure::NoLink(call.ifname.clone()))?;
    let change = conf.link.change()?;
    let file = conf.state.file(&call.container_id, &call.ifname);
    // a second ADD finds the settings of the first, whose backup therefore stays
    let is_first = !file.exists();
    if is_first {
        let backup = Backup::new(&call.net.name, &conf.link, &link);
        conf.state.write(&file, &backup)?;
    }
    let tuned = net.request(&link::change(link.index, &change));
    // the kernel may have made a part of the change; DEL tries again if this fails
    if tuned.is_err()
        && is_first
        && let Err(error) = PLUGIN.del(call)
    {
        plugin::warn(format_args!("tuning: incomplete undo: {error}"));
    }
    Ok(tuned?)
}

fn compare_link(call: &Call, conf: &Conf, netns: &NetNs) -> Result<(), Failure> {
    let link = Netlink::open_in(netns)?.link_by_name(&call.ifname)?;
    let link = link.ok_or_else(|| Failure::NoLinkToCheck(call.ifname.clone()))?;
    conf.link.compare(&link)
}

fn restore(call: &Call, backup: &Backup) -> Result<(), Failure> {
    let Some(netns) = open_if_exists(&call.netns)? else {
        return Ok(());
    };
    let mut net = Netlink::open_in(&netns)?;
    if let Some(link) = net.link_by_name(&call.ifname)? {
        net.request(&link::change(link.index, &backup.change()?))?;
    }
    Ok(())
}

/// None if the namespace is gone, or if only the empty file is left that it was mounted on.
fn open_if_exists(netns: &str) -> Result<Option<NetNs>, Failure> {
    if netns.is_empty() {
        return Ok(None);
    }
    match NetNs::open(Path::new(netns)) {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if error.is_absent() => Ok(None),
        Err(linux_net::Error::NotANamespace { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
