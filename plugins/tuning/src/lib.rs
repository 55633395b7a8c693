//! The `tuning` plugin: sysctls of a container's namespace and settings of one of its interfaces, put back by DEL.
//! It is chained after the plugin that makes the interface.
mod allowlist;
mod backup;
mod conf;
mod sysctls;

use backup::Backup;
use cni_conf::{AddResult, Code, Error, Interface, Version};
use conf::Conf;
use linux_net::{
    NetNs, Netlink,
    link::{self, Link},
};
use plugin::{AddOutput, Call, Plugin};
use std::path::Path;

/// The plugin.
pub static PLUGIN: Tuning = Tuning;

/// Its verbs.
#[derive(Debug)]
pub struct Tuning;

impl Plugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::read(call)?;
        conf.sysctls.check()?;
        allowlist::check(&conf.sysctls)?;
        let mut result = call.prev_result()?.clone();
        let netns = NetNs::open(Path::new(&call.netns)).map_err(Error::internal)?;
        inside(&netns, || conf.sysctls.write(&call.ifname))?;
        if conf.link.is_set() {
            tune(call, &conf, &netns)?;
        }
        report(&mut result, call, &conf);
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        conf.sysctls.check()?;
        call.prev_result()?;
        let netns = NetNs::open(Path::new(&call.netns)).map_err(Error::internal)?;
        inside(&netns, || conf.sysctls.compare(&call.ifname))?;
        let mut net = Netlink::open_in(&netns).map_err(Error::internal)?;
        let link = net
            .link_by_name(&call.ifname)
            .map_err(Error::internal)?
            .ok_or_else(|| {
                Error::internal(format!("Cannot find container link {}", call.ifname))
            })?;
        conf.link.compare(&link)
    }

    /// Puts back what ADD found. What is gone by now needs nothing put back, so that DEL then only forgets it.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let folder = conf::state_folder(call)?;
        let file = folder.file(&call.container_id, &call.ifname);
        let restored = match folder.read(&file)? {
            Some(backup) => restore(call, &backup),
            None => Ok(()),
        };
        match restored {
            Ok(()) => folder.remove(&file),
            Err(error) => {
                // the interface is about to go; the file stays for a second DEL or for GC
                plugin::warn(format_args!(
                    "tuning: {} is not as before: {error}",
                    call.ifname
                ));
                Ok(())
            }
        }
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        match &call.net.valid_attachments {
            None => Ok(()),
            Some(valid) => backup::collect(&conf::state_folder(call)?, &call.net.name, valid),
        }
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let not_available = |error: Error| Error::new(Code::NotAvailable, error.msg);
        let conf = Conf::read(call).map_err(not_available)?;
        conf.sysctls.check().map_err(not_available)?;
        allowlist::check(&conf.sysctls).map_err(not_available)
    }
}

/// What the result says of the interface follows what was changed on it.
fn report(result: &mut AddResult, call: &Call, conf: &Conf) {
    let ours = |interface: &&mut Interface| interface.name == call.ifname;
    for interface in result.interfaces.iter_mut().filter(ours) {
        if let Some(mac) = &conf.link.mac {
            interface.mac.clone_from(mac);
        }
        // results know it since 1.1.0
        if call.net.version >= Version::V1_1_0
            && let Some(mtu) = conf.link.mtu
        {
            interface.mtu = u32::try_from(mtu).ok();
        }
    }
}

/// Sysctls are of the thread's namespace.
fn inside(netns: &NetNs, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    netns.run(work).map_err(Error::internal)?
}

/// Notes what is there, then changes it, all in one request.
fn tune(call: &Call, conf: &Conf, netns: &NetNs) -> Result<(), Error> {
    let mut net = Netlink::open_in(netns).map_err(Error::internal)?;
    let link = existing(&mut net, &call.ifname)?;
    let change = conf.link.change()?;
    let file = conf.state.file(&call.container_id, &call.ifname);
    // a second ADD finds what the first one made of the interface, so the first one's backup stays
    let is_first = !file.exists();
    if is_first {
        (conf.state).write(&file, &Backup::of(&call.net.name, &conf.link, &link))?;
    }
    let tuned = net.request(&link::change(link.index, &change));
    if tuned.is_err() && is_first {
        // the kernel may have come half-way; DEL does the same once more if this fails too
        if let Err(error) = PLUGIN.del(call) {
            plugin::warn(format_args!("tuning: {error}"));
        }
    }
    tuned.map_err(Error::internal)
}

fn restore(call: &Call, backup: &Backup) -> Result<(), Error> {
    let Some(netns) = still_there(&call.netns)? else {
        return Ok(());
    };
    let mut net = Netlink::open_in(&netns).map_err(Error::internal)?;
    match net.link_by_name(&call.ifname).map_err(Error::internal)? {
        Some(link) => net
            .request(&link::change(link.index, &backup.change()?))
            .map_err(Error::internal),
        None => Ok(()),
    }
}

/// None where the namespace is gone, or only the empty file is left that it was mounted on.
fn still_there(netns: &str) -> Result<Option<NetNs>, Error> {
    if netns.is_empty() {
        return Ok(None);
    }
    match NetNs::open(Path::new(netns)) {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if error.is_absent() => Ok(None),
        Err(linux_net::Error::NotANamespace { .. }) => Ok(None),
        Err(error) => Err(Error::internal(error)),
    }
}

fn existing(net: &mut Netlink, ifname: &str) -> Result<Link, Error> {
    let failed =
        |why: &dyn std::fmt::Display| Error::internal(format!("failed to get {ifname:?}: {why}"));
    match net.link_by_name(ifname) {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(failed(&"Link not found")),
        Err(error) => Err(failed(&error)),
    }
}
