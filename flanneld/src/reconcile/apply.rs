//! Makes changes: devices, tables and rules of iptables one by one, everything else in one batch. A
//! change that fails is retried on its own; the others are made all the same.

use super::{
    backoff::Backoff, diff::Change, kernel::Kernel, observe, ownership::own_scope, policies,
    transition::Handshake,
};
use crate::{
    best_effort::best_effort,
    model::{
        entry::Entry,
        host_state::{Blackhole, DeviceKind, DeviceLink, DeviceName, HostRoute},
        rule_set::RuleSet,
        wireguard::Interface,
    },
    rules::host_iptables,
};
use linux_net::{
    Request, address, fdb,
    link::{self, Link},
    neighbour,
    route::{self, RouteScope, RouteType},
    sysctl, tun,
    wireguard::PublicKey,
    xfrm::Policy,
};
use nix::errno::Errno;
use packet_filter::{Table, Transaction};
use std::{collections::BTreeMap, time::Instant};
use tracing::{debug, info};

/// The ifindexes of our devices and of the underlay, by name.
pub(crate) type IndexesByName = BTreeMap<DeviceName, u32>;

/// What became of the changes.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) done: Vec<Change>,
    /// Changes that failed and had not failed before.
    pub(crate) new_failures: Vec<Change>,
}

/// Why a change failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel refused a request on links, addresses, routes, neighbours or FDB entries.
    #[error(transparent)]
    Netlink(#[from] linux_net::Error),
    /// The kernel refused a change of nftables.
    #[error(transparent)]
    PacketFilter(#[from] packet_filter::Error),
    /// The rules in iptables are not as they should be.
    #[error(transparent)]
    Iptables(#[from] host_iptables::Error),
    /// The kernel has no IPsec.
    #[error(
        "this kernel has no IPsec ({0}): load its module (modprobe xfrm_user), or change Backend.Type"
    )]
    NoIpsec(String),
    /// Another program has a policy of IPsec in the place of ours.
    #[error(
        "another program has an IPsec policy with this selector, {0}: delete it (ip xfrm policy), or change that \
         program's configuration"
    )]
    ForeignPolicy(Policy),
    /// A plan asks for a kind of device that flanneld cannot create.
    #[error("flanneld cannot create a device of kind {0}")]
    UnsupportedKind(String),
    /// The kernel has no WireGuard.
    #[error(
        "this kernel has no WireGuard, which device {0} needs: load its module (modprobe wireguard), or change \
         Backend.Type"
    )]
    NoWireguard(DeviceName),
    /// A device disappeared while it was created.
    #[error("device {0} disappeared while it was created")]
    Disappeared(DeviceName),
}

/// Makes those of `changes` that are due, in order. `indexes` follows as devices come and go;
/// `former` are those of our devices at the last pass.
pub(crate) fn apply(
    kernel: &mut Kernel,
    changes: Vec<Change>,
    indexes: &mut IndexesByName,
    former: &IndexesByName,
    backoff: &mut Backoff,
) -> Applied {
    let mut recorder = Recorder {
        backoff,
        now: Instant::now(),
        applied: Applied::default(),
    };
    recorder.backoff.retain(&changes);
    let (mut batch, mut peers, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        if !recorder.backoff.is_due(&change, recorder.now) {
            continue;
        }
        match method(&change, indexes) {
            Ok(Method::Device(name, link)) => {
                let former = former.get(name).copied();
                let result = change_device(kernel, &change, name, link, indexes, former);
                recorder.record(change, result);
            }
            Ok(Method::Table(table)) => {
                let result = change_table(kernel, &change, table);
                recorder.record(change, result.map_err(Error::from));
            }
            Ok(Method::WireguardInterface(index, interface)) => {
                let socket = kernel.wireguard();
                let result = socket.and_then(|socket| socket.set_interface(index, interface));
                recorder.record(change, result.map_err(Error::from));
            }
            Ok(Method::TxChecksum(name, on)) => {
                let result = kernel.ethtool.set_tx_checksum(name, on);
                recorder.record(change, result.map_err(Error::from));
            }
            Ok(Method::WireguardPeer(index)) => peers.push((index, change)),
            Ok(Method::RuleSet(rules)) => {
                let result = kernel.put_rule_set(rules);
                recorder.record(change, result.map_err(Error::from));
            }
            Ok(Method::Policy) => policies.push(change),
            Ok(Method::Request(request)) => batch.push((change, request)),
            // the change stays in the next difference, and follows once its device exists
            Err(NoDevice) => debug!("{change} waits for its device"),
        }
    }
    change_peers(kernel, peers, &mut recorder);
    for (change, result) in policies::change(kernel, policies) {
        recorder.record(change, result);
    }
    let (changes, requests): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let answers = kernel.netlink.batch(&requests);
    for (change, answer) in changes.into_iter().zip(answers) {
        let result = match answer {
            Err(error) if is_satisfied(&change, &error) => Ok(()),
            answer => answer.map_err(Error::from),
        };
        recorder.record(change, result);
    }
    recorder.applied
}

/// Keeps the results.
struct Recorder<'a> {
    backoff: &'a mut Backoff,
    now: Instant,
    applied: Applied,
}

impl Recorder<'_> {
    fn record(&mut self, change: Change, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                self.backoff.succeeded(&change);
                self.applied.done.push(change);
            }
            Err(error) => {
                if self.backoff.failed(&change, error.to_string(), self.now) == 1 {
                    self.applied.new_failures.push(change);
                }
            }
        }
    }
}

/// How a change is made.
enum Method<'a> {
    /// By itself: later changes need the new ifindex.
    Device(&'a DeviceName, &'a DeviceLink),
    /// By an nftables transaction.
    Table(&'a Table),
    /// By itself, on the ethtool socket.
    TxChecksum(&'a DeviceName, bool),
    /// By itself, on the WireGuard socket: of the device with that ifindex.
    WireguardInterface(u32, &'a Interface),
    /// With the other peers, on the WireGuard socket.
    WireguardPeer(u32),
    /// By one `iptables-restore`.
    RuleSet(&'a RuleSet),
    /// With the other policies, on their own socket.
    Policy,
    /// In the batch.
    Request(Request),
}

/// The device of an entry does not exist.
struct NoDevice;

fn method<'a>(change: &'a Change, indexes: &IndexesByName) -> Result<Method<'a>, NoDevice> {
    let index = |name: &DeviceName| indexes.get(name).copied().ok_or(NoDevice);
    let put = matches!(change, Change::Put(_));
    Ok(Method::Request(match change.entry() {
        Entry::Device(name, link) => return Ok(Method::Device(name, link)),
        Entry::Table(table) => return Ok(Method::Table(&table.0)),
        Entry::WireguardInterface(name, interface) => {
            return Ok(Method::WireguardInterface(index(name)?, interface));
        }
        Entry::TxChecksum(name, on) => {
            index(name)?;
            return Ok(Method::TxChecksum(name, *on));
        }
        Entry::WireguardPeer(name, _) => return Ok(Method::WireguardPeer(index(name)?)),
        Entry::RuleSet(rules) => return Ok(Method::RuleSet(rules)),
        Entry::Blackhole(route) if put => route::replace(&kernel_blackhole(route)),
        Entry::Blackhole(route) => route::delete(&kernel_blackhole(route)),
        Entry::Policy(_) => return Ok(Method::Policy),
        Entry::Address(name, net) if put => address::add(index(name)?, *net, net.is_ipv6()),
        Entry::Address(name, net) => address::delete(index(name)?, *net),
        Entry::Neighbour(name, ip, mac) => {
            let entry = neighbour::Neighbour::permanent(index(name)?, *ip, *mac);
            if put {
                neighbour::replace(&entry)
            } else {
                neighbour::delete(&entry)
            }
        }
        Entry::Fdb(name, mac, remote) => {
            let entry = fdb::FdbEntry::permanent(index(name)?, *mac, *remote);
            if put {
                fdb::replace(&entry)
            } else {
                // the whole entry, whatever its port and VNI are
                fdb::delete(&fdb::FdbEntry { dst: None, ..entry })
            }
        }
        Entry::Route(route) if put => route::replace(&kernel_route(route, index(&route.device)?)),
        Entry::Route(route) => route::delete(&route::Route {
            // any scope
            scope: RouteScope::NoWhere,
            ..kernel_route(route, index(&route.device)?)
        }),
    }))
}

/// Makes changes of WireGuard's peers, before the routes that lead to them.
fn change_peers(kernel: &mut Kernel, changes: Vec<(u32, Change)>, recorder: &mut Recorder<'_>) {
    if changes.is_empty() {
        return;
    }
    match kernel.wireguard() {
        Ok(socket) => {
            let answers = socket.change_peers(&changes);
            for ((_, change), answer) in changes.into_iter().zip(answers) {
                recorder.record(change, answer.map_err(Error::from));
            }
        }
        // the device's entry tells it
        Err(error) => debug!("peers wait: {error}"),
    }
}

/// Begins handshakes with peers of WireGuard, each unless one is under way.
pub(super) fn begin_handshakes(
    kernel: &mut Kernel,
    handshakes: Vec<Handshake>,
    indexes: &IndexesByName,
) {
    for of_device in handshakes.chunk_by(|one, next| one.device == next.device) {
        let index = of_device.first().and_then(|one| indexes.get(&one.device));
        let Some(index) = index else { continue };
        let begun = kernel
            .wireguard()
            .and_then(|socket| socket.begin_handshakes(*index, of_device));
        best_effort(begun, "they begin with the first packet");
    }
}

/// True if the error says that the host already is as the change wants it.
fn is_satisfied(change: &Change, error: &linux_net::Error) -> bool {
    match change {
        Change::Delete(_) => error.is_absent(),
        Change::Put(Entry::Address(..)) => error.is_exists(),
        Change::Put(_) => false,
    }
}

fn change_device(
    kernel: &mut Kernel,
    change: &Change,
    name: &DeviceName,
    link: &DeviceLink,
    indexes: &mut IndexesByName,
    former: Option<u32>,
) -> Result<(), Error> {
    match (change, indexes.get(name)) {
        (Change::Delete(_), _) => {
            indexes.remove(name);
            match kernel.netlink.request(&link::delete_by_name(name)) {
                Err(error) if !error.is_absent() => return Err(error.into()),
                Ok(()) | Err(_) => info!("deleted device {name}"),
            }
        }
        (Change::Put(_), Some(&index)) => {
            kernel.netlink.request(&link::change(
                index,
                &link::Change {
                    up: Some(link.up),
                    mtu: Some(link.mtu),
                    mac: link.mac,
                    // 0: none
                    master: Some(0),
                    ..link::Change::default()
                },
            ))?;
            info!("set MTU, MAC, state and master of device {name}");
        }
        (Change::Put(_), None) => {
            create_device(kernel, name, link, indexes, former)?;
            info!("created device {name}");
        }
    }
    Ok(())
}

pub(super) fn create_device(
    kernel: &mut Kernel,
    name: &DeviceName,
    link: &DeviceLink,
    indexes: &mut IndexesByName,
    former: Option<u32>,
) -> Result<(), Error> {
    let index = match rename_back(kernel, name, link, former)? {
        Some(index) => index,
        None => create_link(kernel, name, link)?,
    };
    indexes.insert(name.clone(), index);
    let up = link::Change {
        up: Some(true),
        ..link::Change::default()
    };
    Ok(kernel.netlink.request(&link::change(index, &up))?)
}

/// Returns the ifindex.
fn create_link(kernel: &mut Kernel, name: &DeviceName, link: &DeviceLink) -> Result<u32, Error> {
    let request = match &link.kind {
        DeviceKind::Vxlan(vxlan) => link::create_vxlan(name, vxlan, Some(link.mtu), link.mac),
        DeviceKind::Wireguard(_) => link::create_wireguard(name, Some(link.mtu)),
        DeviceKind::Tun => {
            create_tun(kernel, name)?;
            let mtu = link::Change {
                mtu: Some(link.mtu),
                ..link::Change::default()
            };
            link::change_by_name(name, &mtu)
        }
        DeviceKind::IpTunnel(tunnel) => link::create_ip_tunnel(name, tunnel, Some(link.mtu)),
        DeviceKind::Foreign(kind) => return Err(Error::UnsupportedKind(kind.clone())),
    };
    match kernel.netlink.request(&request) {
        Err(error)
            if error.errno() == Some(Errno::EOPNOTSUPP)
                && matches!(link.kind, DeviceKind::Wireguard(_)) =>
        {
            return Err(Error::NoWireguard(name.clone()));
        }
        result => result?,
    }
    if let Err(error) = sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0") {
        // /proc/sys is read-only in many pods, and no router advertises on the overlay
        debug!("accept_ra of {name} stays on: {error}");
    }
    let created = kernel.netlink.link_by_name(name)?;
    Ok(created
        .ok_or_else(|| Error::Disappeared(name.clone()))?
        .index)
}

/// Makes a TUN device, unless the process that has its packets was quicker.
fn create_tun(kernel: &mut Kernel, name: &DeviceName) -> Result<(), Error> {
    if kernel.netlink.link_by_name(name)?.is_none() {
        tun::create(name)?;
    }
    Ok(())
}

/// Gives the wanted device its name back if another program renamed it: the kernel refuses a second
/// one with its VNI or its addresses, and a process has the packets of a TUN device, not those of
/// another one with its name. The device is the one with its former ifindex; after a restart, the
/// one with its MAC or key. Returns its ifindex, None if there is no such device.
fn rename_back(
    kernel: &mut Kernel,
    name: &DeviceName,
    wanted: &DeviceLink,
    former: Option<u32>,
) -> Result<Option<u32>, Error> {
    let links = kernel.netlink.links()?;
    let mut is_wanted = |link: &&Link| {
        observe::device_link(link).adoptable_as(wanted)
            && (former == Some(link.index)
                || match &wanted.kind {
                    DeviceKind::Wireguard(key) => has_key(kernel, link, key.as_ref()),
                    _ => wanted.mac.is_some() && link.mac == wanted.mac,
                })
    };
    let Some(link) = links.iter().find(&mut is_wanted) else {
        return Ok(None);
    };
    let change = |up: Option<bool>, name: Option<&DeviceName>| {
        let change = link::Change {
            up,
            name: name.map(|name| name.to_string()),
            ..link::Change::default()
        };
        link::change(link.index, &change)
    };
    if let Err(error) = kernel.netlink.request(&change(None, Some(name))) {
        debug!("{error}: setting it down first");
        kernel.netlink.request(&change(Some(false), None))?;
        kernel.netlink.request(&change(None, Some(name)))?;
    }
    info!("renamed device {} back to {name}", link.name);
    Ok(Some(link.index))
}

/// True if the device has that public key, under a name that is none of a device of ours: two of
/// ours may have one key.
fn has_key(kernel: &mut Kernel, link: &Link, wanted: Option<&PublicKey>) -> bool {
    let socket = kernel.wireguard();
    let key = socket.and_then(|socket| socket.public_key(link.index));
    let key = best_effort(key, "another device is made");
    wanted.is_some() && key.flatten().as_ref() == wanted && !crate::backend::owns_device(link)
}

fn change_table(
    kernel: &mut Kernel,
    change: &Change,
    table: &Table,
) -> Result<(), packet_filter::Error> {
    let nft = kernel.nft()?;
    let mut transaction = Transaction::new();
    match change {
        Change::Put(_) => {
            // a chain that is not wanted, or of another type, only goes with its table
            if nft.table(table.family, &table.name)?.is_some() {
                transaction.delete_table(table.family, &table.name);
            }
            transaction.set_table(table);
        }
        Change::Delete(_) => {
            transaction.delete_table(table.family, &table.name);
        }
    }
    nft.commit(&transaction)
}

fn kernel_blackhole(route: &Blackhole) -> route::Route {
    route::Route {
        kind: RouteType::BlackHole,
        priority: route.metric,
        protocol: route.protocol.into(),
        ..route::Route::new(route.dst)
    }
}

/// The route as it is requested.
pub(super) fn kernel_route(route: &HostRoute, index: u32) -> route::Route {
    route::Route {
        scope: own_scope(route.dst, route.gateway),
        gateway: route.gateway,
        oif: Some(index),
        onlink: route.onlink,
        encap: route.encap,
        protocol: route.protocol.into(),
        ..route::Route::new(route.dst)
    }
}
