//! Token buckets on the host end of a veth and on an ifb device.

use crate::{conf::Bandwidth, error::Failure};
use cni_conf::{AddResult, Interface};
use linux_net::{
    NetNs, Netlink, Request,
    link::{self, Change, Kind, Link},
    tc::{self, Tbf},
};
use plugin::{Attachment, attachment::alias_prefix, hash::sha512_prefix};

const IFB_PREFIX: &str = "bwp";
/// Start of the aliases of ifb devices: `cni-bandwidth NETWORK ID IFNAME`. GC finds the owner of a
/// device by its alias.
const ALIAS: &str = "bandwidth";

/// The ifb device's name, as upstream. All interfaces of a container in one network share it.
pub(crate) fn ifb_name(owner: &Attachment) -> String {
    let text = format!("{}{}", owner.network, owner.container_id);
    format!("{IFB_PREFIX}{}", sha512_prefix(text, 12))
}

/// The peer of the container's interface, which the result must list.
pub(crate) fn host_end(
    host: &mut Netlink,
    netns: &NetNs,
    ifname: &str,
    result: &AddResult,
) -> Result<Link, Failure> {
    if result.interfaces.is_empty() {
        return Err(Failure::NoInterfaces);
    }
    let mut container = Netlink::open_in(netns)?;
    let peer = match container.link_by_name(ifname)? {
        Some(Link {
            kind: Kind::Veth,
            lower: Some(peer),
            ..
        }) => peer,
        Some(_) => return Err(Failure::NotVeth(ifname.to_owned())),
        None => return Err(Failure::NoLink(ifname.to_owned())),
    };
    let link = host.link_by_index(peer)?;
    let link = link.ok_or(Failure::PeerNotInHost(peer))?;
    let is_peer =
        |interface: &Interface| interface.sandbox.is_empty() && interface.name == link.name;
    match result.interfaces.iter().any(is_peer) {
        true => Ok(link),
        false => Err(Failure::UnknownPeer),
    }
}

/// Adds the buckets; undoes its steps if one fails. Returns the ifb device for the result, if
/// egress is limited.
pub(crate) fn apply(
    host: &mut Netlink,
    veth: &Link,
    limits: &Bandwidth,
    owner: &Attachment,
) -> Result<Option<Interface>, Failure> {
    let mut steps = Vec::new();
    if let Some(bucket) = &limits.ingress {
        steps.push(Step {
            name: "create qdisc",
            request: tc::add_tbf(veth.index, bucket),
            undo: Some(tc::delete_root(veth.index)),
        });
    }
    let Some(bucket) = &limits.egress else {
        run(host, steps)?;
        return Ok(None);
    };
    let ifb = create_ifb(host, owner, veth.mtu)?;
    steps.extend(redirect_steps(veth, &ifb, bucket));
    if let Err(failure) = run(host, steps) {
        undo_ifb(host, &ifb.name);
        return Err(failure);
    }
    Ok(Some(Interface {
        name: ifb.name,
        mac: ifb.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        ..Interface::default()
    }))
}

/// Redirects what the veth's host end receives to the ifb device, which has the bucket.
fn redirect_steps(veth: &Link, ifb: &Link, bucket: &Tbf) -> [Step; 3] {
    [
        Step {
            name: "create ingress qdisc",
            request: tc::add_ingress(veth.index),
            undo: Some(tc::delete_ingress(veth.index)),
        },
        Step {
            name: "add filter",
            request: tc::redirect(veth.index, ifb.index),
            undo: None,
        },
        Step {
            name: "create ifb qdisc: create qdisc",
            request: tc::add_tbf(ifb.index, bucket),
            undo: None,
        },
    ]
}

/// Creates the ifb device and sets it up. Replaces one of an earlier ADD of the attachment.
fn create_ifb(host: &mut Netlink, owner: &Attachment, mtu: u32) -> Result<Link, Failure> {
    let (name, alias) = (ifb_name(owner), owner.alias(ALIAS));
    if (host.link_by_name(&name)?).is_some_and(|found| found.alias.as_ref() == Some(&alias)) {
        delete_ifb(host, &name)?;
    }
    let change = Change {
        up: Some(true),
        alias: Some(alias),
        ..Change::default()
    };
    let steps = vec![
        Step {
            name: "adding link",
            request: link::create_ifb(&name, Some(mtu)),
            undo: Some(link::delete_by_name(&name)),
        },
        Step {
            name: "adding link",
            request: link::change_by_name(&name, &change),
            undo: None,
        },
    ];
    run(host, steps)?;
    match host.link_by_name(&name) {
        Ok(link) => link.ok_or(Failure::NoIfb(name)),
        Err(error) => {
            undo_ifb(host, &name);
            Err(error.into())
        }
    }
}

fn undo_ifb(host: &mut Netlink, name: &str) {
    if let Err(error) = delete_ifb(host, name) {
        plugin::warn(format_args!("bandwidth: incomplete undo: {error}"));
    }
}

/// A request and the one that undoes it.
struct Step {
    /// as upstream's error names it
    name: &'static str,
    request: Request,
    undo: Option<Request>,
}

/// Sends all requests in one batch. If the kernel refuses one, undoes the others, the last one
/// first.
fn run(host: &mut Netlink, steps: Vec<Step>) -> Result<(), Failure> {
    let requests: Vec<_> = steps.iter().map(|step| step.request.clone()).collect();
    let mut undo = Vec::new();
    let mut failure = None;
    for (result, step) in host.batch(&requests).into_iter().zip(steps) {
        match result {
            Ok(()) => undo.extend(step.undo),
            Err(source) => {
                failure.get_or_insert(Failure::Step {
                    step: step.name,
                    source,
                });
            }
        }
    }
    let Some(failure) = failure else {
        return Ok(());
    };
    undo.reverse();
    for error in host.batch(&undo).into_iter().filter_map(Result::err) {
        plugin::warn(format_args!("bandwidth: incomplete undo: {error}"));
    }
    Err(failure)
}

/// Compares the kernel's buckets with the limits.
pub(crate) fn check(
    host: &mut Netlink,
    veth: &Link,
    limits: &Bandwidth,
    owner: &Attachment,
) -> Result<(), Failure> {
    if let Some(bucket) = &limits.ingress {
        check_bucket(host, veth.index, bucket)?;
    }
    let Some(bucket) = &limits.egress else {
        return Ok(());
    };
    let name = ifb_name(owner);
    let ifb = host.link_by_name(&name)?.ok_or(Failure::NoIfb(name))?;
    check_bucket(host, ifb.index, bucket)?;
    let qdiscs = host.qdiscs(veth.index)?;
    match qdiscs.iter().any(|qdisc| qdisc.kind == "ingress") {
        true => Ok(()),
        false => Err(Failure::NoIngress(veth.name.clone())),
    }
}

fn check_bucket(host: &mut Netlink, index: u32, wanted: &Tbf) -> Result<(), Failure> {
    let qdiscs = host.qdiscs(index)?;
    let found = qdiscs.iter().find_map(|qdisc| qdisc.tbf);
    let found = found.ok_or(Failure::NoBucket)?;
    let fields = [
        ("Rate", found.rate == wanted.rate),
        ("Limit", found.limit == wanted.limit),
        ("Buffer", found.buffer == wanted.buffer),
    ];
    match fields.iter().find(|(_, matches)| !matches) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::Mismatch(name)),
    }
}

/// Does nothing if the device does not exist.
pub(crate) fn delete_ifb(host: &mut Netlink, name: &str) -> Result<(), Failure> {
    match host.request(&link::delete_by_name(name)) {
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Deletes the network's ifb devices that no valid attachment has. Devices of the Go plugin have no
/// alias and stay.
pub(crate) fn collect(
    host: &mut Netlink,
    network: &str,
    valid: &[Attachment],
) -> Result<(), Failure> {
    let valid: Vec<_> = valid.iter().map(|one| one.alias(ALIAS)).collect();
    let prefix = alias_prefix(ALIAS, network);
    let is_stale = |alias: &String| alias.starts_with(&prefix) && !valid.contains(alias);
    for link in host.links()? {
        if link.kind == Kind::Other("ifb".into())
            && link.name.starts_with(IFB_PREFIX)
            && link.alias.as_ref().is_some_and(is_stale)
        {
            delete_ifb(host, &link.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ifb_name_is_upstreams_and_names_fit_the_kernels_limits() {
        let owner = Attachment::new("net", "c1", "eth0");
        // printf netc1 | sha512sum
        assert_eq!(ifb_name(&owner), "bwp623e1c388032");
        assert_eq!(owner.alias(ALIAS), "cni-bandwidth net c1 eth0");
        let long = Attachment::new(&"n".repeat(300), &"c".repeat(300), "interface-name1");
        assert!(long.alias(ALIAS).len() < 256 && ifb_name(&long).len() == 15);
    }
}
