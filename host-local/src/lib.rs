//! The `host-local` plugin: addresses out of ranges, with the reservations in files on this node (upstream:
//! plugins/ipam/host-local). The arithmetic is in [`range`], [`range_set`] and [`allocator`], the disk in [`store`].
pub mod allocator;
mod config;
mod error;
pub mod range;
pub mod range_set;
mod resolv_conf;
pub mod store;

pub use error::{AllocateError, Error, FileError};

use cni_conf::{AddResult, Code, Dns, IpConfig};
use linux_net::{NetNs, Netlink};
use plugin::{AddOutput, Call, Plugin};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};
use store::{Disk, Owner, Record};

/// The plugin.
pub static PLUGIN: HostLocal = HostLocal;

/// Its verbs.
#[derive(Debug)]
pub struct HostLocal;

impl Plugin for HostLocal {
    fn name(&self) -> &'static str {
        "host-local"
    }

    fn add(&self, call: &Call) -> Result<AddOutput, cni_conf::Error> {
        let config = config::load(call)?;
        let dns = match &config.resolv_conf {
            Some(path) => read_dns(path)?,
            None => Dns::default(),
        };
        let (path, side) = config::folders(call)?;
        let mut disk = Disk::create(&path, side, owner(call), &call.netns).map_err(Error::from)?;
        let given = allocator::allocate(
            &mut disk,
            &config.sets,
            &config.requested,
            &call.container_id,
            &|ip| in_use(&call.netns, ip),
        )?;
        let ips = given.into_iter().map(|given| IpConfig {
            interface: None,
            address: given.address,
            gateway: Some(given.gateway),
        });
        Ok(AddOutput::Result(AddResult {
            ips: ips.collect(),
            routes: config.routes,
            dns,
            ..AddResult::default()
        }))
    }

    fn check(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let reserved = match open(call)? {
            Some(mut disk) => !disk.owned().map_err(Error::from)?.is_empty(),
            None => false,
        };
        match reserved {
            true => Ok(()),
            false => Err(Error::NotReserved(call.container_id.clone()).into()),
        }
    }

    /// Needs nothing of the configuration but the store's place.
    fn del(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let Some(mut disk) = open(call)? else {
            return Ok(());
        };
        let owned = disk.owned().map_err(Error::from)?;
        // files that tell the container alone count only where none tells the interface too
        let (legacy, exact): (Vec<Record>, Vec<Record>) = owned
            .into_iter()
            .partition(|record| record.owner.is_legacy());
        let of_interface = if exact.is_empty() { legacy } else { exact };
        disk.remove(&of_interface).map_err(Error::from)?;
        Ok(())
    }

    fn gc(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let Some(valid) = &call.net.valid_attachments else {
            return Ok(());
        };
        if let Some(mut disk) = open(call)? {
            disk.collect_garbage(valid).map_err(Error::from)?;
        }
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let config = config::load(call)?;
        let (path, _) = config::folders(call)?;
        let Some(mut disk) = open(call)? else {
            return writable(&path);
        };
        writable(&path)?;
        for (index, set) in config.sets.iter().enumerate() {
            let free = allocator::has_free(&disk, index, set, &|ip| disk.is_taken(ip));
            if free.map_err(Error::from)?
                || disk
                    .has_abandoned(&|ip| set.contains(ip))
                    .map_err(Error::from)?
            {
                continue;
            }
            let exhausted = AllocateError::Exhausted(set.to_string());
            return Err(cni_conf::Error::new(
                Code::NotAvailable,
                exhausted.to_string(),
            ));
        }
        Ok(())
    }
}

fn owner(call: &Call) -> Owner {
    Owner::new(&call.container_id, &call.ifname)
}

fn open(call: &Call) -> Result<Option<Disk>, cni_conf::Error> {
    let (path, side) = config::folders(call)?;
    Ok(Disk::open(&path, side, owner(call)).map_err(Error::from)?)
}

fn read_dns(path: &Path) -> Result<Dns, Error> {
    let bytes = fs::read(path).map_err(FileError::of("open", path))?;
    Ok(resolv_conf::parse(&String::from_utf8_lossy(&bytes)))
}

/// True if an interface of the container has the address, or if that cannot be told.
fn in_use(netns: &str, ip: IpAddr) -> bool {
    let addresses = NetNs::open(Path::new(netns))
        .and_then(|netns| Netlink::open_in(&netns))
        .and_then(|mut netlink| netlink.addresses(None));
    addresses.map_or(true, |all| all.iter().any(|address| address.net.ip() == ip))
}

/// Code 50 unless reservations can be written at `path`, which need not exist yet.
fn writable(path: &Path) -> Result<(), cni_conf::Error> {
    let existing: PathBuf = path
        .ancestors()
        .find(|path| path.exists())
        .map_or("/".into(), Path::to_owned);
    let access = nix::unistd::access(&existing, nix::unistd::AccessFlags::W_OK);
    access.map_err(|errno| {
        let error = FileError::of("write to", &existing)(errno.into());
        cni_conf::Error::new(Code::NotAvailable, error.to_string())
    })
}
