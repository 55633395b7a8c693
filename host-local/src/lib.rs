//! The `host-local` IPAM plugin: addresses from ranges, with the reservations in files on this node
//! (upstream: plugins/ipam/host-local). `range`, `range_set` and `allocator` are pure arithmetic;
//! `store` is the disk.

mod allocator;
mod config;
mod error;
pub mod fuzz;
mod range;
mod range_set;
mod resolv_conf;
mod store;

use allocator::Allocated;
use cni_conf::{AddResult, Code, Dns, IpConfig};
use config::Folders;
use error::{AllocateError, Error};
use linux_net::{NetNs, Netlink};
use nix::unistd::{AccessFlags, access};
use plugin::{AddOutput, Call, Plugin};
use std::{net::IpAddr, path::Path};
use store::{Disk, is_legacy};

pub use error::FileError;
pub use store::{Container, Reservation, Store, networks, remove_indexes};

/// Longest `resolvConf` that is read, in bytes.
const MAX_RESOLV_CONF_LEN: u64 = 1 << 20;

/// The plugin, for the suite's registry.
pub static PLUGIN: HostLocal = HostLocal;

/// Implements [`Plugin`].
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
        let mut disk = Disk::create(&config.folders, call.attachment(), &call.netns)
            .map_err(Error::from)?
            .with_cookie(call.netns_cookie);
        let allocated = allocator::allocate(
            &mut disk,
            &config.sets,
            &config.requested,
            &call.container_id,
            &|ip| in_use(&call.netns, ip),
        )?;
        let ip_config = |Allocated { address, gateway }| IpConfig {
            interface: None,
            address,
            gateway: Some(gateway),
        };
        Ok(AddOutput::Result(AddResult {
            ips: allocated.into_iter().map(ip_config).collect(),
            routes: config.routes,
            dns,
            ..AddResult::default()
        }))
    }

    fn check(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let reserved = match open(call, &config::folders(call)?)? {
            Some(mut disk) => !disk.owned().map_err(Error::from)?.is_empty(),
            None => false,
        };
        match reserved {
            true => Ok(()),
            false => Err(Error::NotReserved(call.container_id.clone()).into()),
        }
    }

    /// Needs only `dataDir` of the configuration.
    fn del(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let Some(mut disk) = open(call, &config::folders(call)?)? else {
            return Ok(());
        };
        let mut owned = disk.owned().map_err(Error::from)?;
        // legacy files count only where no file names the interface, as upstream does it
        let all_legacy = owned.iter().all(|record| is_legacy(&record.owner));
        owned.retain(|record| all_legacy || !is_legacy(&record.owner));
        Ok(disk.remove(&owned).map_err(Error::from)?)
    }

    fn gc(&self, call: &Call) -> Result<(), cni_conf::Error> {
        if let Some(valid) = call.valid_attachments()
            && let Some(mut disk) = open(call, &config::folders(call)?)?
        {
            disk.collect_garbage(&valid).map_err(Error::from)?;
        }
        Ok(())
    }

    /// A runtime makes the whole node not ready for an error here. A node without a free address
    /// runs its pods, so that alone is an error only where the configuration asks for it.
    fn status(&self, call: &Call) -> Result<(), cni_conf::Error> {
        let config = config::load(call)?;
        let disk = open(call, &config.folders)?;
        check_writable(&config.folders.store)?;
        let Some(mut disk) = disk else { return Ok(()) };
        for (index, set) in config.sets.iter().enumerate() {
            let free = allocator::has_free(&disk, index, set, &|ip| disk.is_taken(ip))
                .map_err(Error::from)?;
            let wanted = |ip| set.contains(ip);
            if free || disk.has_abandoned(&wanted).map_err(Error::from)? {
                continue;
            }
            let message = AllocateError::Exhausted(set.to_string()).to_string();
            if config.not_available_when_full {
                return Err(cni_conf::Error::new(Code::NotAvailable, message));
            }
            plugin::warn(format_args!("host-local: {message}"));
        }
        Ok(())
    }
}

/// None: the network has no store yet.
fn open(call: &Call, folders: &Folders) -> Result<Option<Disk>, Error> {
    Ok(Disk::open(folders, call.attachment(), "")?)
}

fn read_dns(path: &Path) -> Result<Dns, Error> {
    let bytes =
        atomic_file::read_whole(path, MAX_RESOLV_CONF_LEN).map_err(FileError::of("open", path))?;
    Ok(resolv_conf::parse(&String::from_utf8_lossy(&bytes)))
}

/// True if an interface of the container has the address, or if its addresses cannot be read.
fn in_use(netns: &str, ip: IpAddr) -> bool {
    let addresses = NetNs::open(Path::new(netns))
        .and_then(|netns| Netlink::open_in(&netns))
        .and_then(|mut netlink| netlink.addresses(None));
    addresses.map_or(true, |all| all.iter().any(|address| address.net.ip() == ip))
}

/// Err with code 50: reservations cannot be written at `path`, which need not exist yet.
fn check_writable(path: &Path) -> Result<(), cni_conf::Error> {
    let existing = path.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    access(existing, AccessFlags::W_OK).map_err(|errno| {
        let error = FileError::of("write to", existing)(errno.into());
        cni_conf::Error::new(Code::NotAvailable, error.to_string())
    })
}
