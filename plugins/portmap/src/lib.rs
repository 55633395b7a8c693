//! The `portmap` plugin: ports of the host that lead to ports of a container. It is chained after
//! the plugin that gives the container its addresses, and passes that plugin's result on.

mod comment;
mod conditional;
mod conf;
mod connections;
mod error;
mod forward;
pub mod fuzz;
mod go_rules;
mod holder;
mod iptables;
mod iptables_rules;
mod layout;
mod leftover;
mod localnet;
mod mappings;
mod nftables;

use cni_conf::{AddResult, Code, Error, IpConfig};
use conf::{Backend, Conf};
use error::Failure;
use forward::Forward;
use holder::Container;
use ipnetwork::IpNetwork;
use mappings::Mappings;
use nftables::Nftables;
use packet_filter::{Iptables, Nft};
use plugin::{AddOutput, Attachment, Call, Plugin};

pub use leftover::Leftover;

/// The entry in the registry of plugins.
pub static PLUGIN: Portmap = Portmap;

/// The plugin. Without mappings, ADD and CHECK start no process and open no socket.
#[derive(Debug)]
pub struct Portmap;

impl Plugin for Portmap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, Error> {
        let desired = Desired::read(call)?;
        if !desired.conf.is_empty() {
            desired.add()?;
        }
        Ok(AddOutput::Result(prev_result(call)?.clone()))
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let desired = Desired::read(call)?;
        if !desired.conf.is_empty() {
            desired.check()?;
        }
        Ok(())
    }

    fn del(&self, call: &Call) -> Result<(), Error> {
        if conf::excludes_mappings(call.document()) {
            return Ok(());
        }
        Ok(delete(
            &call.attachment(),
            &Container::new(call, Vec::new()),
        )?)
    }

    fn gc(&self, call: &Call) -> Result<(), Error> {
        let Some(valid) = call.valid_attachments() else {
            return Ok(());
        };
        let network = &call.net.name;
        Ok(remove(
            |nftables| nftables.gc(network, &valid),
            |nft| iptables::gc(nft, network, &valid),
        )?)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let not_available = |reason: String| Err(Error::new(Code::NotAvailable, reason));
        let conf = Conf::read(call.document()).map_err(Failure::Conf)?;
        match (conf.backend, Iptables::of(false).is_installed()) {
            (Some(Backend::Iptables), false) => {
                not_available("backend iptables: iptables-restore is not installed".to_owned())
            }
            (Some(Backend::Iptables) | None, true) => Ok(()),
            _ => match Nft::open().and_then(|mut nft| nft.generation()) {
                Ok(_) => Ok(()),
                Err(error) => not_available(format!("backend nftables: {error}")),
            },
        }
    }
}

fn prev_result(call: &Call) -> Result<&AddResult, Failure> {
    call.net.prev_result.as_ref().ok_or(Failure::NotChained)
}

/// The mappings that an attachment should have.
struct Desired {
    conf: Conf,
    owner: Attachment,
    addresses: Vec<IpNetwork>,
    container: Container,
}

impl Desired {
    fn read(call: &Call) -> Result<Desired, Failure> {
        let conf = Conf::read(call.document())?;
        let result = prev_result(call)?;
        let addresses = container_addresses(result, &call.ifname);
        let ips = addresses.iter().map(IpNetwork::ip).collect();
        Ok(Desired {
            conf,
            owner: call.attachment(),
            addresses,
            container: Container::new(call, ips),
        })
    }

    /// Adds all mappings or none.
    fn add(&self) -> Result<(), Failure> {
        let backend = self.select_backend();
        let Err(error) = self.add_or_undo(backend) else {
            return Ok(());
        };
        let is_taken = matches!(error, Failure::Taken { .. });
        if is_taken || (backend, self.conf.backend) != (Backend::Iptables, None) {
            return Err(error);
        }
        plugin::warn(format_args!(
            "portmap: iptables failed, trying nftables: {error}"
        ));
        self.add_or_undo(Backend::Nftables).or(Err(error))
    }

    fn add_or_undo(&self, backend: Backend) -> Result<(), Failure> {
        let added = self.add_with(backend);
        // a runtime need not call DEL after a failed ADD; GC removes what this cannot
        if added.is_err()
            && let Err(error) = delete(&self.owner, &self.container)
        {
            plugin::warn(format_args!("portmap: incomplete undo: {error}"));
        }
        added
    }

    fn add_with(&self, backend: Backend) -> Result<(), Failure> {
        let mut nftables = open(backend).map_err(Failure::Map)?;
        for address in &self.addresses {
            let mappings = Mappings::new(&self.owner, &self.conf, *address, &self.container);
            match &mut nftables {
                _ if mappings.forwards.is_empty() => {}
                Some(nftables) => nftables.add(&mappings)?,
                None => iptables::add(&mappings)?,
            }
            if self.conf.snat && address.is_ipv4() {
                localnet::enable(address.ip())?;
            }
            connections::delete_to_host_ports(&mappings.forwards);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        match (self.select_backend(), self.conf.backend) {
            // iptables may have been installed since ADD, or did not work at ADD
            (Backend::Iptables, None) => self
                .check_with(Backend::Iptables)
                .or_else(|error| self.check_with(Backend::Nftables).or(Err(error))),
            (backend, _) => self.check_with(backend),
        }
    }

    fn check_with(&self, backend: Backend) -> Result<(), Failure> {
        let mut nftables = open(backend).map_err(Failure::Check)?;
        for address in &self.addresses {
            let mappings = Mappings::new(&self.owner, &self.conf, *address, &self.container);
            match &mut nftables {
                _ if mappings.forwards.is_empty() => {}
                Some(nftables) => nftables.check(&mappings)?,
                None => iptables::check(&mappings)?,
            }
        }
        Ok(())
    }

    /// The configured back end; by default iptables, as upstream, unless it is not installed.
    fn select_backend(&self) -> Backend {
        let is_installed = |address: &IpNetwork| Iptables::of(address.is_ipv6()).is_installed();
        match self.conf.backend {
            Some(backend) => backend,
            None if self.addresses.iter().all(is_installed) => Backend::Iptables,
            None => Backend::Nftables,
        }
    }
}

/// The container's first address of each family: of interface `ifname` in a sandbox, or of no
/// interface.
fn container_addresses(result: &AddResult, ifname: &str) -> Vec<IpNetwork> {
    let is_container = |ip: &&IpConfig| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    };
    let first = |ipv6: bool| {
        let mut addresses = result.ips.iter().filter(is_container);
        addresses.find(|ip| ip.address.is_ipv6() == ipv6)
    };
    let both = [first(false), first(true)].into_iter().flatten();
    both.map(|ip| ip.address).collect()
}

/// None for iptables.
fn open(backend: Backend) -> Result<Option<Nftables>, packet_filter::Error> {
    match backend {
        Backend::Nftables => Nftables::open().map(Some),
        Backend::Iptables => Ok(None),
    }
}

/// Elements, rules and chains name their owner, so this needs no configuration, result or
/// namespace.
fn delete(owner: &Attachment, container: &Container) -> Result<(), Failure> {
    remove(
        |nftables| nftables.del(owner, container),
        |nft| iptables::del(nft, owner, container),
    )
}

/// Removes mappings from both back ends, because the configuration may have changed since ADD. A
/// kernel without nftables has none there.
fn remove(
    from_nftables: impl FnOnce(&mut Nftables) -> Result<Vec<Forward>, packet_filter::Error>,
    from_iptables: impl FnOnce(Option<&mut Nft>) -> Result<Vec<Forward>, Failure>,
) -> Result<(), Failure> {
    let unless_unsupported = |error: packet_filter::Error| match error.is_unsupported() {
        true => Ok(Vec::new()),
        false => Err(Failure::Remove(error)),
    };
    let mut nftables = match Nftables::open() {
        Ok(nftables) => Some(nftables),
        Err(error) => unless_unsupported(error).map(|_| None)?,
    };
    let by_nftables = match &mut nftables {
        Some(nftables) => from_nftables(nftables).or_else(unless_unsupported),
        None => Ok(Vec::new()),
    };
    let by_iptables = from_iptables(nftables.as_mut().map(|nftables| &mut nftables.nft));
    for removed in [&by_nftables, &by_iptables].into_iter().flatten() {
        connections::delete_to_container(removed);
    }
    by_nftables.and(by_iptables).map(drop)
}
