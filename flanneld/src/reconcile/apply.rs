//! Makes changes: devices one by one, whole tables, and everything else in one batch. A change that fails is remembered
//! with its own time to try again, and the others are made all the same.
use crate::{
    model::host_state::{DeviceKind, DeviceLink, DeviceName, HostRoute, HostState},
    reconcile::backoff::Backoff,
    reconcile::diff::Change,
    reconcile::observe::Kernel,
};
use linux_net::{Error, Request, address, fdb, link, neighbour, route, sysctl};
use packet_filter::Transaction;
use std::{collections::BTreeMap, time::Instant};

/// ifindex by name: ours, and the underlay's.
pub type Names = BTreeMap<DeviceName, u32>;

/// What was done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// changes that were made
    pub done: Vec<Change>,
    /// changes that failed for the first time, and why
    pub new_failures: Vec<(Change, String)>,
}

/// Makes what is due of `changes`, in order. `names` is kept up to date as devices come and go.
pub fn apply(
    kernel: &mut Kernel,
    wanted: &HostState,
    changes: Vec<Change>,
    names: &mut Names,
    backoff: &mut Backoff,
) -> Applied {
    let now = Instant::now();
    backoff.keep_only(&changes);
    let mut applied = Applied::default();
    let mut record =
        |change: Change, result: Result<(), String>, backoff: &mut Backoff| match result {
            Ok(()) => {
                backoff.succeeded(&change);
                applied.done.push(change);
            }
            Err(error) => {
                if backoff.failed(&change, error.clone(), now) == 1 {
                    applied.new_failures.push((change, error));
                }
            }
        };
    let mut entries = Vec::new();
    for change in changes {
        if !backoff.is_due(&change, now) {
            continue;
        }
        match &change {
            Change::DeleteLink(_) | Change::CreateLink(_) | Change::AlterLink(_) => {
                let result = change_link(kernel, wanted, &change, names);
                record(change, result.map_err(|error| error.to_string()), backoff);
            }
            Change::SetTable(..) | Change::DeleteTable(..) => {
                let result = change_table(kernel, wanted, &change);
                record(change, result.map_err(|error| error.to_string()), backoff);
            }
            // an entry whose device could not be made waits for the device
            _ => entries.extend(request(&change, names).map(|request| (change, request))),
        }
    }
    let (entries, requests): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let answers = kernel.netlink.batch(&requests);
    for (change, answer) in entries.into_iter().zip(answers) {
        let result = match answer {
            Err(error) if is_settled(&change, &error) => Ok(()),
            other => other.map_err(|error| error.to_string()),
        };
        record(change, result, backoff);
    }
    applied
}

/// Deleting what is gone and adding what is there are no failures.
fn is_settled(change: &Change, error: &Error) -> bool {
    match change {
        Change::DeleteAddress(..)
        | Change::DeleteNeighbour(..)
        | Change::DeleteFdb(..)
        | Change::DeleteRoute(..) => error.is_absent(),
        Change::AddAddress(..) => error.is_exists(),
        _ => false,
    }
}

fn change_link(
    kernel: &mut Kernel,
    wanted: &HostState,
    change: &Change,
    names: &mut Names,
) -> Result<(), Error> {
    match change {
        Change::DeleteLink(name) => {
            names.remove(name);
            match kernel.netlink.request(&link::delete_by_name(name)) {
                Err(error) if !error.is_absent() => Err(error),
                _ => Ok(()),
            }
        }
        Change::CreateLink(name) => match wanted.devices.get(name) {
            Some(device) => create(kernel, name, &device.link, names),
            None => Ok(()),
        },
        Change::AlterLink(name) => match (wanted.devices.get(name), names.get(name)) {
            (Some(device), Some(&index)) => alter(kernel, index, &device.link),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn create(
    kernel: &mut Kernel,
    name: &DeviceName,
    link: &DeviceLink,
    names: &mut Names,
) -> Result<(), Error> {
    let DeviceKind::Vxlan(vxlan) = &link.kind else {
        return Ok(());
    };
    kernel.netlink.request(&link::create_vxlan(
        name,
        vxlan,
        Some(link.mtu),
        Some(link.mac),
    ))?;
    // /proc/sys is read-only in many pods, and a device that hears no router does no harm: upstream ignores this as well
    sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0").unwrap_or_default();
    if let Some(made) = kernel.netlink.link_by_name(name)? {
        names.insert(name.clone(), made.index);
        kernel.netlink.request(&link::change(
            made.index,
            &link::Change {
                up: Some(true),
                ..link::Change::default()
            },
        ))?;
    }
    Ok(())
}

fn alter(kernel: &mut Kernel, index: u32, link: &DeviceLink) -> Result<(), Error> {
    kernel.netlink.request(&link::change(
        index,
        &link::Change {
            up: Some(link.up),
            mtu: Some(link.mtu),
            mac: Some(link.mac),
            ..link::Change::default()
        },
    ))
}

fn change_table(
    kernel: &mut Kernel,
    wanted: &HostState,
    change: &Change,
) -> Result<(), packet_filter::Error> {
    let mut transaction = Transaction::new();
    match change {
        Change::SetTable(family, name) => {
            let is_it =
                |table: &&packet_filter::Table| table.family == *family && table.name == *name;
            let nft = kernel.nft()?;
            // a chain that is not wanted, or of another kind, is only got rid of with its table
            if nft.table(*family, name)?.is_some() {
                transaction.delete_table(*family, name);
            }
            if let Some(table) = wanted.tables.iter().find(is_it) {
                transaction.set_table(table);
            }
        }
        Change::DeleteTable(family, name) => {
            transaction.delete_table(*family, name);
        }
        _ => {}
    }
    kernel.nft()?.commit(&transaction)
}

/// The request for an entry; None if its device is not there.
fn request(change: &Change, names: &Names) -> Option<Request> {
    let index = |name: &DeviceName| names.get(name).copied();
    Some(match change {
        Change::AddAddress(name, net) => address::add(index(name)?, *net, net.is_ipv6()),
        Change::DeleteAddress(name, net) => address::delete(index(name)?, *net),
        Change::PutNeighbour(name, ip, mac) => {
            neighbour::replace(&neighbour::Neighbour::permanent(index(name)?, *ip, *mac))
        }
        Change::DeleteNeighbour(name, ip) => neighbour::delete(&neighbour::Neighbour {
            index: index(name)?,
            ip: *ip,
            mac: None,
            state: 0,
        }),
        Change::PutFdb(name, mac, dst) => {
            fdb::replace(&fdb::FdbEntry::permanent(index(name)?, *mac, *dst))
        }
        Change::DeleteFdb(name, mac, dst) => {
            fdb::delete(&fdb::FdbEntry::permanent(index(name)?, *mac, *dst))
        }
        Change::PutRoute(route) => route::replace(&kernel_route(route, index(&route.device)?)),
        Change::DeleteRoute(route) => route::delete(&route::Route {
            // whoever made it
            protocol: 0,
            ..kernel_route(route, index(&route.device)?)
        }),
        _ => return None,
    })
}

fn kernel_route(route: &HostRoute, index: u32) -> route::Route {
    route::Route {
        gateway: Some(route.gateway),
        oif: Some(index),
        onlink: route.onlink,
        ..route::Route::new(route.dst)
    }
}
