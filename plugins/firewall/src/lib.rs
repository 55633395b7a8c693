//! The `firewall` plugin: accepts a container's forwarded traffic on a host that drops it by
//! default, with iptables or firewalld, and isolates the containers of a bridge if `ingressPolicy`
//! asks for it.

mod bus;
mod conf;
mod dbus;
mod error;
mod firewalld;
pub mod fuzz;
mod ingress;
mod iptables;
mod record;
mod rule;

use cni_conf::{AddResult, Code, Error, Version};
use conf::Conf;
use error::Failure;
use firewalld::Firewalld;
use packet_filter::{Iptables, Lock};
use plugin::state::StateFolder;
use plugin::{AddOutput, Call, Plugin};
use record::Record;
use rule::allowing;
use std::{net::IpAddr, path::Path};

/// The entry in the registry of plugins.
pub static PLUGIN: Firewall = Firewall;

/// The plugin.
#[derive(Debug)]
pub struct Firewall;

enum Backend {
    Iptables,
    Firewalld(Firewalld),
}

impl Plugin for Firewall {
    fn name(&self) -> &'static str {
        "firewall"
    }

    fn versions(&self) -> &'static [Version] {
        &[Version::V0_4_0, Version::V1_0_0, Version::V1_1_0]
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::read(call)?;
        let result = prev_result(call)?;
        let bridge = conf.policy.bridge(result)?;
        let backend = Backend::select(&conf)?;
        let ips = addresses(result);
        // written first, so that DEL and GC can undo an interrupted ADD
        let folder = record::folder();
        let file = folder.file(&call.container_id, &call.ifname);
        folder.write(&file, &Record::new(&call.net.name, &conf.zone, &ips))?;
        let added = allow(backend, &conf, &ips, bridge);
        if added.is_err()
            && let Err(error) = self.del(call)
        {
            // the runtime's DEL tries again
            plugin::warn(format_args!("firewall: incomplete undo: {error}"));
        }
        added?;
        Ok(AddOutput::Result(result.clone()))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let result = prev_result(call)?;
        let ips = addresses(result);
        match Backend::select(&conf)? {
            Backend::Firewalld(mut firewalld) => firewalld.check(&conf.zone, &ips)?,
            Backend::Iptables => {
                iptables::each_family(&ips, |iptables, ips| {
                    iptables::check(iptables, &allowing(&conf.admin_chain, ips))
                })?;
            }
        }
        if let Some(bridge) = conf.policy.bridge(result)? {
            let rules = conf.policy.rules(bridge);
            iptables::each_family(&ips, |iptables, _| iptables::check(iptables, &rules))?;
        }
        Ok(())
    }

    /// Uses ADD's record, or prevResult where there is none (the Go plugin writes none).
    fn del(&self, call: &Call) -> Result<(), Error> {
        let folder = record::folder();
        let file = folder.file(&call.container_id, &call.ifname);
        let record = folder.read(&file)?.or_else(|| {
            let result = call.net.prev_result.as_ref()?;
            // DEL must not fail on the configuration; without it the zone is the default one
            let zone = Conf::read(call).unwrap_or_default().zone;
            Some(Record::new(&call.net.name, &zone, &addresses(result)))
        });
        match record {
            Some(record) => remove(&folder, &file, &record),
            None => folder.remove(&file),
        }
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = call.valid_attachments() else {
            return Ok(());
        };
        let folder = record::folder();
        for (file, record) in record::stale(&folder, &call.net.name, &valid)? {
            remove(&folder, &file, &record)?;
        }
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let usable = || match Backend::select(&Conf::read(call)?)? {
            Backend::Iptables if !Iptables::of(false).is_installed() => Err(Failure::NoIptables),
            _ => Ok(()),
        };
        usable().map_err(|failure| Error::new(Code::NotAvailable, failure.to_string()))
    }
}

impl Backend {
    /// The configured back end; by default firewalld if it runs.
    fn select(conf: &Conf) -> Result<Backend, Failure> {
        match conf.backend.as_str() {
            "iptables" => Ok(Backend::Iptables),
            "firewalld" => Firewalld::connect().map(Backend::Firewalld),
            _ => Ok(match Firewalld::running() {
                Some(firewalld) => Backend::Firewalld(firewalld),
                None => Backend::Iptables,
            }),
        }
    }
}

fn allow(
    backend: Backend,
    conf: &Conf,
    ips: &[IpAddr],
    bridge: Option<&str>,
) -> Result<(), Failure> {
    // for chains and jumps that all containers share, and for DEL and GC, which read records first
    let _lock = Lock::take()?;
    match backend {
        Backend::Firewalld(mut firewalld) => firewalld.add(&conf.zone, ips)?,
        Backend::Iptables => {
            iptables::each_family(ips, |iptables, ips| {
                iptables::add(iptables, &allowing(&conf.admin_chain, ips))
            })?;
        }
    }
    if let Some(bridge) = bridge {
        let rules = conf.policy.rules(bridge);
        iptables::each_family(ips, |iptables, _| iptables::add(iptables, &rules))?;
    }
    Ok(())
}

fn prev_result(call: &Call) -> Result<&AddResult, Failure> {
    call.net.prev_result.as_ref().ok_or(Failure::NoPrevResult)
}

fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

/// Removes the record and its addresses, except those that another attachment has by now. The
/// addresses may be in either back end: the configuration may have changed since ADD.
///
/// Under ADD's lock: an ADD writes its record before it takes the lock, so its rules are either not
/// there yet or of an address that the other records name.
fn remove(folder: &StateFolder, file: &Path, record: &Record) -> Result<(), Error> {
    let _lock = Lock::take().map_err(Failure::from)?;
    let others = record::addresses_of_others(folder, file)?;
    let mut ips = record.addresses();
    ips.retain(|ip| !others.contains(ip));
    if !ips.is_empty() {
        if let Some(mut firewalld) = Firewalld::running() {
            firewalld.remove(&record.zone, &ips);
        }
        iptables::each_family(&ips, iptables::delete)?;
    }
    folder.remove(file)
}
