//! The `portmap` plugin: ports of the host that lead to ports of a container. It is chained after the plugin that gave the
//! container its addresses, and hands their result on.
mod conditional;
mod conf;
mod connections;
mod forward;
mod go_rules;
mod layout;
mod localnet;
mod nftables;
mod owner;

use cni_conf::{Code, Error};
use conf::{Conf, Hints};
use nftables::Nftables;
use owner::Owner;
use plugin::{AddOutput, Call, Plugin};
use std::collections::BTreeSet;

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
            let owner = Owner::of(call);
            if let Err(error) = map(call, &conf, &owner) {
                // DEL need not come after a failed ADD; what it could not take away either is found by GC
                return Err(match unmap(&owner) {
                    Ok(()) => error,
                    Err(left) => error.details(format!("and not all could be undone: {left}")),
                });
            }
        }
        Ok(AddOutput::Result(result.clone()))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let result = chained(call)?;
        if conf.is_empty() {
            return Ok(());
        }
        let mut nftables = Nftables::open().map_err(Error::internal)?;
        for address in conf::container_addresses(result, &call.ifname) {
            nftables.check(&Owner::of(call), &conf, address)?;
        }
        Ok(())
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
        let valid: BTreeSet<String> = valid
            .iter()
            .map(|attachment| {
                let owner = Owner {
                    container_id: attachment.container_id.clone(),
                    ifname: attachment.ifname.clone(),
                    network: call.net.name.clone(),
                };
                owner.comment()
            })
            .collect();
        let mapped = Nftables::open()
            .and_then(|mut nftables| nftables.gc(&call.net.name, &valid))
            .map_err(Error::internal)?;
        connections::of_container_end(&mapped);
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        Conf::read(call)?;
        Nftables::open()
            .and_then(|mut nftables| nftables.probe())
            .map_err(|error| Error::new(Code::NotAvailable, format!("nftables: {error}")))
    }
}

fn chained(call: &Call) -> Result<&cni_conf::AddResult, Error> {
    let result = call.net.prev_result.as_ref();
    result.ok_or_else(|| Error::internal("must be called as chained plugin"))
}

fn map(call: &Call, conf: &Conf, owner: &Owner) -> Result<(), Error> {
    let addresses = conf::container_addresses(chained(call)?, &call.ifname);
    let mut nftables = Nftables::open().map_err(Error::internal)?;
    for address in addresses {
        nftables.add(owner, conf, address)?;
        if conf.snat && address.is_ipv4() {
            localnet::route(address.ip())?;
        }
        connections::of_ports_end(&conf.forwards(address.ip()));
    }
    Ok(())
}

/// By what the elements and rules themselves say, so that neither configuration, result nor namespace is needed.
fn unmap(owner: &Owner) -> Result<(), Error> {
    let mapped = Nftables::open()
        .and_then(|mut nftables| nftables.del(owner))
        .map_err(|error| Error::internal(format!("cannot remove port mappings: {error}")))?;
    connections::of_container_end(&mapped);
    Ok(())
}
