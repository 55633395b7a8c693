//! The `tuning` plugin: sysctls and link settings of an interface that an earlier plugin of the chain made.

mod allowlist;
mod backup;
mod conf;
mod settings;
mod sysctls;

use std::path::Path;

use cni_conf::{AddResult, Error};
use linux_net::{NetNs, Netlink, link::Link};
use plugin::{AddOutput, Call, Plugin};

use conf::Conf;
use settings::Settings;

/// The plugin.
pub static PLUGIN: Tuning = Tuning;

/// See [`PLUGIN`].
#[derive(Debug)]
pub struct Tuning;

impl Plugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::of(call)?;
        let mut result = call.prev_result()?.clone();
        let sysctls = conf.sysctls(&call.ifname)?;
        allowlist::check(&sysctls, Path::new(allowlist::FILE))?;
        let inside = open(call)?;
        inside
            .run(|| sysctls::apply(&sysctls))
            .map_err(Error::internal)??;
        let wanted = conf.settings()?;
        if !wanted.is_empty() {
            let (mut netlink, link) = interface(&inside, &call.ifname)?;
            backup::save(&conf, call, &Settings::of(&link, &wanted)?)?;
            wanted.apply(&mut netlink, &link)?;
            report(&mut result, call, &wanted);
        }
        Ok(AddOutput::Result(result))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::of(call)?;
        call.prev_result()?;
        let inside = open(call)?;
        let sysctls = conf.sysctls(&call.ifname)?;
        inside
            .run(|| sysctls::check(&sysctls))
            .map_err(Error::internal)??;
        let wanted = conf.settings()?;
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.check(&interface(&inside, &call.ifname)?.1)
    }

    /// Gives a link that outlives its attachment (a moved device) its settings back. Whatever is gone needs none.
    fn del(&self, call: &Call) -> Result<(), Error> {
        // a configuration that is no longer valid must not keep the backup
        let conf = Conf::of(call).unwrap_or_default();
        let Some(before) = backup::take(&conf, call)? else {
            return Ok(());
        };
        if call.netns.is_empty() {
            return Ok(());
        }
        let Ok(inside) = NetNs::open(Path::new(&call.netns)) else {
            return Ok(());
        };
        let Ok((mut netlink, link)) = interface(&inside, &call.ifname) else {
            return Ok(());
        };
        before.apply(&mut netlink, &link)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = &call.net.valid_attachments else {
            return Ok(());
        };
        backup::collect(&Conf::of(call).unwrap_or_default(), &call.net.name, valid)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::of(call)?;
        allowlist::check(&conf.sysctls("eth0")?, Path::new(allowlist::FILE))
    }
}

fn open(call: &Call) -> Result<NetNs, Error> {
    NetNs::open(Path::new(&call.netns))
        .map_err(|error| Error::internal(format!("failed to open netns {:?}: {error}", call.netns)))
}

fn interface(inside: &NetNs, name: &str) -> Result<(Netlink, Link), Error> {
    let mut netlink = Netlink::open_in(inside).map_err(Error::internal)?;
    let link = netlink.link_by_name(name).map_err(Error::internal)?;
    let link =
        link.ok_or_else(|| Error::internal(format!("failed to get {name:?}: Link not found")))?;
    Ok((netlink, link))
}

/// What the result says of the interface follows what was changed on it.
fn report(result: &mut AddResult, call: &Call, wanted: &Settings) {
    for interface in &mut result.interfaces {
        if interface.name == call.ifname && interface.sandbox == call.netns {
            if let Some(mac) = &wanted.mac {
                interface.mac.clone_from(mac);
            }
            if let Some(mtu) = wanted.mtu {
                interface.mtu = Some(mtu);
            }
        }
    }
}
