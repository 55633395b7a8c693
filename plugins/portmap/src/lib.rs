//! The `portmap` plugin: ports of the host that lead to ports of a container. It is chained after the plugin that gave the
//! container its addresses, and hands their result on.
mod conditional;
mod conf;
mod connections;
mod forward;
mod go_rules;
mod iptables;
mod iptables_rules;
mod layout;
mod localnet;
mod nftables;
mod owner;

use cni_conf::{AddResult, Code, Error, GcAttachment};
use conf::{Backend, Conf, Hints};
use forward::Forward;
use ipnetwork::IpNetwork;
use nftables::Nftables;
use owner::Owner;
use packet_filter::{Iptables, Nft};
use plugin::{AddOutput, Call, Plugin};

/// The plugin.
pub static PLUGIN: Portmap = Portmap;

/// Its verbs. Where there is nothing to map, ADD and CHECK start no process and open no socket.
#[derive(Debug)]
pub struct Portmap;

impl Plugin for Portmap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let conf = Conf::read(call)?;
        let result = chained(call)?;
        if !conf.is_empty() {
            map(call, &conf, result)?;
        }
        Ok(AddOutput::Result(result.clone()))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let result = chained(call)?;
        if conf.is_empty() {
            return Ok(());
        }
        let (owner, addresses) = (Owner::of(call), addresses(call, result));
        let by_nftables = || {
            let mut nftables = Nftables::open().map_err(Error::internal)?;
            addresses
                .iter()
                .try_for_each(|address| nftables.check(&owner, &conf, *address))
        };
        let by_iptables = || {
            addresses
                .iter()
                .try_for_each(|address| iptables::check(&owner, &conf, *address))
        };
        match (backend(&conf, &addresses), conf.backend) {
            (Backend::Nftables, _) => by_nftables(),
            (Backend::Iptables, Some(_)) => by_iptables(),
            // iptables may have been installed, or found not to work, since
            (Backend::Iptables, None) => by_iptables().or_else(|why| by_nftables().or(Err(why))),
        }
    }

    fn del(&self, call: &Call) -> Result<(), Error> {
        if Hints::read(call).none {
            return Ok(());
        }
        unmap(&Owner::of(call))
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = &call.net.valid_attachments else {
            return Ok(());
        };
        let network = &call.net.name;
        let comments = valid
            .iter()
            .map(|attachment| comment(attachment, network))
            .collect();
        let ids = valid
            .iter()
            .map(|attachment| attachment.container_id.as_str())
            .collect();
        remove(
            |nftables| nftables.gc(network, &comments),
            |nft| iptables::gc(nft, network, &ids),
        )
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let unusable =
            |why: &dyn std::fmt::Display| Err(Error::new(Code::NotAvailable, why.to_string()));
        let installed = Iptables::of(false).is_installed();
        if conf.backend == Some(Backend::Iptables) && !installed {
            return unusable(&"backend iptables: iptables-restore is not installed");
        }
        if conf.backend == Some(Backend::Iptables) || (conf.backend.is_none() && installed) {
            return Ok(());
        }
        match Nftables::open().and_then(|mut nftables| nftables.probe()) {
            Ok(()) => Ok(()),
            Err(error) => unusable(&format_args!("backend nftables: {error}")),
        }
    }
}

fn comment(attachment: &GcAttachment, network: &str) -> String {
    let owner = Owner {
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
        network: network.to_owned(),
    };
    owner.comment()
}

fn chained(call: &Call) -> Result<&AddResult, Error> {
    let result = call.net.prev_result.as_ref();
    result.ok_or_else(|| Error::internal("must be called as chained plugin"))
}

fn addresses(call: &Call, result: &AddResult) -> Vec<IpNetwork> {
    conf::container_addresses(result, &call.ifname)
}

/// What is asked for; else iptables, as upstream, unless it is not installed.
fn backend(conf: &Conf, addresses: &[IpNetwork]) -> Backend {
    let installed = |address: &IpNetwork| Iptables::of(address.is_ipv6()).is_installed();
    match conf.backend {
        Some(backend) => backend,
        None if addresses.iter().all(installed) => Backend::Iptables,
        None => Backend::Nftables,
    }
}

/// All mappings, or none.
fn map(call: &Call, conf: &Conf, result: &AddResult) -> Result<(), Error> {
    let (owner, addresses) = (Owner::of(call), addresses(call, result));
    let chosen = backend(conf, &addresses);
    let mut outcome = map_with(chosen, conf, &owner, &addresses);
    if outcome.is_err() {
        // DEL need not come after a failed ADD; what could not be taken away either is found by GC
        if let Err(left) = unmap(&owner) {
            plugin::warn(format_args!("not all could be undone: {left}"));
        }
    }
    if let (Err(error), Backend::Iptables, None) = (&outcome, chosen, conf.backend) {
        plugin::warn(format_args!(
            "iptables is unusable here, nftables is tried: {error}"
        ));
        if map_with(Backend::Nftables, conf, &owner, &addresses).is_ok() {
            outcome = Ok(());
        } else {
            unmap(&owner).ok();
        }
    }
    outcome
}

fn map_with(
    backend: Backend,
    conf: &Conf,
    owner: &Owner,
    addresses: &[IpNetwork],
) -> Result<(), Error> {
    let mut nftables = match backend {
        Backend::Nftables => Some(Nftables::open().map_err(Error::internal)?),
        Backend::Iptables => None,
    };
    for address in addresses {
        match &mut nftables {
            Some(nftables) => nftables.add(owner, conf, *address)?,
            None => iptables::add(owner, conf, *address)?,
        }
        if conf.snat && address.is_ipv4() {
            localnet::route(address.ip())?;
        }
        connections::of_ports_end(&conf.forwards(address.ip()));
    }
    Ok(())
}

/// By what elements, rules and chains themselves say, so that neither configuration, result nor namespace is needed.
fn unmap(owner: &Owner) -> Result<(), Error> {
    remove(
        |nftables| nftables.del(owner),
        |nft| iptables::del(nft, owner),
    )
}

/// From either back end, since the configuration may have been another at ADD. In a kernel without nftables there is nothing.
fn remove(
    from_nftables: impl FnOnce(&mut Nftables) -> Result<Vec<Forward>, packet_filter::Error>,
    from_iptables: impl FnOnce(Option<&mut Nft>) -> Result<Vec<Forward>, Error>,
) -> Result<(), Error> {
    let failed = |error| Error::internal(format!("cannot remove port mappings: {error}"));
    let unless_unsupported = |error: packet_filter::Error| match error.is_unsupported() {
        true => Ok(Vec::new()),
        false => Err(failed(error)),
    };
    let mut nftables = match Nftables::open() {
        Ok(nftables) => Some(nftables),
        Err(error) => unless_unsupported(error).map(|_| None)?,
    };
    let by_nftables = match &mut nftables {
        Some(nftables) => from_nftables(nftables).or_else(unless_unsupported),
        None => Ok(Vec::new()),
    };
    let by_iptables = from_iptables(nftables.as_mut().map(Nftables::socket));
    for mapped in [&by_nftables, &by_iptables].into_iter().flatten() {
        connections::of_container_end(mapped);
    }
    by_nftables.and(by_iptables).map(drop)
}
