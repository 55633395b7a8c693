//! The `firewall` plugin: lets a host that forwards nothing by default forward a container's traffic, by iptables or by firewalld,
//! and keeps containers of different bridges apart where that is asked for.
mod conf;
mod dbus;
mod firewalld;
mod ingress;
mod iptables;
mod owned;

use cni_conf::{AddResult, Code, Error, Version};
use conf::Conf;
use firewalld::Firewalld;
use iptables::Filter;
use owned::{Owned, Record};
use plugin::{AddOutput, Call, Plugin};
use std::net::IpAddr;

/// The plugin.
pub static PLUGIN: Firewall = Firewall;

/// Its verbs.
#[derive(Debug)]
pub struct Firewall;

/// Who holds the rules.
enum Backend {
    Iptables,
    Firewalld(Firewalld),
}

impl Plugin for Firewall {
    fn name(&self) -> &'static str {
        "firewall"
    }

    fn versions(&self) -> &'static [Version] {
        Version::ALL.get(4..).unwrap_or_default()
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::read(call)?;
        let result = previous(call)?;
        let bridge = conf.policy.bridge(result)?;
        let backend = Backend::of(&conf)?;
        let ips = addresses(result);
        // first, so that whatever is cut short from here on can be taken back
        let record = Record::new(&call.net.name, &conf.zone, &ips);
        Owned::default().write(&call.container_id, &call.ifname, &record)?;
        let let_through = let_through(backend, &conf, &ips, bridge);
        if let_through.is_err()
            && let Err(error) = self.del(call)
        {
            // a DEL that follows tries again
            plugin::warn(format_args!("firewall: {error}"));
        }
        let_through.map(|()| AddOutput::Result(result.clone()))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let result = previous(call)?;
        let ips = addresses(result);
        match Backend::of(&conf)? {
            Backend::Firewalld(mut firewalld) => firewalld.check(&conf.zone, &ips)?,
            Backend::Iptables => {
                Filter::each(&ips, |filter, ips| filter.check(&conf.admin_chain, ips))?
            }
        }
        match conf.policy.bridge(result)? {
            Some(bridge) => Filter::each(&ips, |filter, _| {
                filter.check_isolation(bridge, conf.policy)
            }),
            None => Ok(()),
        }
    }

    /// By what ADD noted; where there is no note (the Go plugin wrote none) by prevResult. An address that by now belongs to
    /// another attachment keeps its rules.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let owned = Owned::default();
        let noted = owned.read(&call.container_id, &call.ifname)?;
        let known = noted.or_else(|| {
            let result = call.net.prev_result.as_ref()?;
            let zone = Conf::read(call).unwrap_or_default().zone;
            Some(Record::new(&call.net.name, &zone, &addresses(result)))
        });
        if let Some(record) = known {
            let others = owned.claimed_by_others(&call.container_id, &call.ifname)?;
            take_back(&record, &others)?;
        }
        owned.remove(&call.container_id, &call.ifname)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = &call.net.valid_attachments else {
            return Ok(());
        };
        let owned = Owned::default();
        for stale in owned.without_owner(&call.net.name, valid)? {
            take_back(&stale.record, &owned.claimed_by_all_but(&stale.file)?)?;
            owned.forget(&stale.file)?;
        }
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let not_available = |error: Error| Error::new(Code::NotAvailable, error.msg);
        let conf = Conf::read(call).map_err(not_available)?;
        match Backend::of(&conf).map_err(not_available)? {
            Backend::Iptables => Filter::is_usable().map_err(not_available),
            Backend::Firewalld(_) => Ok(()),
        }
    }
}

impl Backend {
    /// The one that is asked for; without a word firewalld where it runs.
    fn of(conf: &Conf) -> Result<Backend, Error> {
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

fn let_through(
    backend: Backend,
    conf: &Conf,
    ips: &[IpAddr],
    bridge: Option<&str>,
) -> Result<(), Error> {
    match backend {
        Backend::Firewalld(mut firewalld) => firewalld.add(&conf.zone, ips)?,
        Backend::Iptables => {
            Filter::each(ips, |filter, ips| filter.allow(&conf.admin_chain, ips))?;
        }
    }
    match bridge {
        Some(bridge) => Filter::each(ips, |filter, _| filter.isolate(bridge, conf.policy)),
        None => Ok(()),
    }
}

fn previous(call: &Call) -> Result<&AddResult, Error> {
    (call.net.prev_result.as_ref())
        .ok_or_else(|| Error::internal("missing prevResult from earlier plugin"))
}

fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

/// From wherever they are: the configuration may name another back end by now.
fn take_back(record: &Record, claimed_by_others: &[IpAddr]) -> Result<(), Error> {
    let mut ips = record.addresses();
    ips.retain(|ip| !claimed_by_others.contains(ip));
    if ips.is_empty() {
        return Ok(());
    }
    if let Some(mut firewalld) = Firewalld::running() {
        firewalld.remove(record.zone(), &ips);
    }
    Filter::each(&ips, |filter, ips| filter.disallow(ips))
}
