//! The kernel's side: buckets on the host end of a veth and on an ifb device.
use crate::{
    conf::Bandwidth,
    owner::{Owner, PREFIX, alias_prefix},
};
use cni_conf::{AddResult, Error, GcAttachment, Interface};
use linux_net::{
    NetNs, Netlink, Request,
    link::{self, Change, Kind, Link},
    tc::{self, Tbf},
};

/// The host end of the container's interface: its peer, which the result must know.
pub(crate) fn host_end(
    host: &mut Netlink,
    netns: &NetNs,
    ifname: &str,
    result: &AddResult,
) -> Result<Link, Error> {
    if result.interfaces.is_empty() {
        return Err(Error::internal("no interfaces provided"));
    }
    let mut inside = Netlink::open_in(netns).map_err(Error::internal)?;
    let no_peer = |why: &dyn std::fmt::Display| {
        Error::internal(format!(
            "container interface {ifname} has no veth peer: {why}"
        ))
    };
    let peer = match inside.link_by_name(ifname) {
        Ok(Some(Link {
            kind: Kind::Veth,
            lower: Some(peer),
            ..
        })) => peer,
        Ok(Some(_)) => {
            return Err(no_peer(&format_args!(
                "interface {ifname} is not a veth interface"
            )));
        }
        Ok(None) => {
            let why = format!("could not look up {ifname:?}: Link not found");
            return Err(no_peer(&why));
        }
        Err(error) => return Err(no_peer(&error)),
    };
    let link = host
        .link_by_index(peer)
        .map_err(Error::internal)?
        .ok_or_else(|| Error::internal(format!("veth peer with index {peer} is not in host ns")))?;
    let known = |interface: &Interface| interface.sandbox.is_empty() && interface.name == link.name;
    match result.interfaces.iter().any(known) {
        true => Ok(link),
        false => Err(Error::internal(
            "no veth peer of container interface found in host ns",
        )),
    }
}

/// Sets the limits; the ifb device, if one was made. What was done of it is taken back where something fails.
pub(crate) fn apply(
    host: &mut Netlink,
    veth: &Link,
    limits: &Bandwidth,
    owner: &Owner<'_>,
) -> Result<Option<Interface>, Error> {
    let mut steps = Vec::new();
    if let Some(bucket) = &limits.ingress {
        steps.push(Step {
            what: "create qdisc",
            request: tc::add_tbf(veth.index, bucket),
            undo: Some(tc::delete_root(veth.index)),
        });
    }
    let Some(bucket) = &limits.egress else {
        return run(host, steps).map(|()| None);
    };
    let ifb = create(host, owner, veth.mtu)?;
    steps.extend(redirected(veth, &ifb, bucket));
    if let Err(error) = run(host, steps) {
        // the first failure is the one to tell
        remove(host, &ifb.name).ok();
        return Err(error);
    }
    Ok(Some(Interface {
        name: ifb.name,
        mac: ifb.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        ..Interface::default()
    }))
}

/// What the veth's host end receives goes through the ifb device and the bucket there.
fn redirected(veth: &Link, ifb: &Link, bucket: &Tbf) -> [Step; 3] {
    [
        Step {
            what: "create ingress qdisc",
            request: tc::add_ingress(veth.index),
            undo: Some(tc::delete_ingress(veth.index)),
        },
        Step {
            what: "add filter",
            request: tc::redirect(veth.index, ifb.index),
            undo: None,
        },
        Step {
            what: "create ifb qdisc: create qdisc",
            request: tc::add_tbf(ifb.index, bucket),
            undo: None,
        },
    ]
}

/// The ifb device, up. One that this attachment left earlier is replaced.
fn create(host: &mut Netlink, owner: &Owner<'_>, mtu: u32) -> Result<Link, Error> {
    let name = owner.ifb();
    if let Some(found) = host.link_by_name(&name).map_err(Error::internal)?
        && found.alias.as_deref() == Some(&owner.alias())
    {
        remove(host, &name)?;
    }
    let mark = Change {
        up: Some(true),
        alias: Some(owner.alias()),
        ..Change::default()
    };
    let steps = vec![
        Step {
            what: "adding link",
            request: link::create_ifb(&name, Some(mtu)),
            undo: Some(link::delete_by_name(&name)),
        },
        Step {
            what: "adding link",
            request: link::change_by_name(&name, &mark),
            undo: None,
        },
    ];
    run(host, steps)?;
    let made = match host.link_by_name(&name) {
        Ok(made) => made,
        Err(error) => {
            // the first failure is the one to tell
            remove(host, &name).ok();
            return Err(Error::internal(error));
        }
    };
    made.ok_or_else(|| Error::internal(format!("get ifb device: {name} is gone again")))
}

/// A request, what it is for, and how it is taken back.
struct Step {
    what: &'static str,
    request: Request,
    undo: Option<Request>,
}

/// All of them in one batch. After a refusal, those that were carried out are taken back, the last one first.
fn run(host: &mut Netlink, steps: Vec<Step>) -> Result<(), Error> {
    let requests: Vec<_> = steps.iter().map(|step| step.request.clone()).collect();
    let mut undo = Vec::new();
    let mut refusal = None;
    for (result, step) in host.batch(&requests).into_iter().zip(steps) {
        match result {
            Ok(()) => undo.extend(step.undo),
            Err(error) => {
                refusal = refusal.or(Some(Error::internal(format!("{}: {error}", step.what))))
            }
        }
    }
    let Some(refusal) = refusal else {
        return Ok(());
    };
    undo.reverse();
    host.batch(&undo);
    Err(refusal)
}

/// Each limit against what the kernel has.
pub(crate) fn check(
    host: &mut Netlink,
    veth: &Link,
    limits: &Bandwidth,
    owner: &Owner<'_>,
) -> Result<(), Error> {
    if let Some(bucket) = &limits.ingress {
        check_bucket(host, veth.index, bucket)?;
    }
    let Some(bucket) = &limits.egress else {
        return Ok(());
    };
    let name = owner.ifb();
    let ifb = host
        .link_by_name(&name)
        .map_err(Error::internal)?
        .ok_or_else(|| Error::internal(format!("get ifb device: {name}: Link not found")))?;
    check_bucket(host, ifb.index, bucket)?;
    let hooked = host.qdiscs(veth.index).map_err(Error::internal)?;
    match hooked.iter().any(|qdisc| qdisc.kind == "ingress") {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "Failed to find ingress qdisc on {}",
            veth.name
        ))),
    }
}

fn check_bucket(host: &mut Netlink, index: u32, wanted: &Tbf) -> Result<(), Error> {
    let qdiscs = host.qdiscs(index).map_err(Error::internal)?;
    let Some(found) = qdiscs.iter().find_map(|qdisc| qdisc.tbf) else {
        return Err(Error::internal("Failed to find qdisc"));
    };
    for (what, same) in [
        ("Rate", found.rate == wanted.rate),
        ("Limit", found.limit == wanted.limit),
        ("Buffer", found.buffer == wanted.buffer),
    ] {
        if !same {
            return Err(Error::internal(format!("{what} doesn't match")));
        }
    }
    Ok(())
}

/// Deletes a device; one that is gone is no error.
pub(crate) fn remove(host: &mut Netlink, name: &str) -> Result<(), Error> {
    match host.request(&link::delete_by_name(name)) {
        Err(error) if !error.is_absent() => Err(Error::internal(error)),
        _ => Ok(()),
    }
}

/// Deletes the network's ifb devices that no valid attachment has. Those that Go made do not tell their network and stay.
pub(crate) fn collect(
    host: &mut Netlink,
    network: &str,
    valid: &[GcAttachment],
) -> Result<(), Error> {
    let valid: Vec<_> = valid
        .iter()
        .map(|one| Owner::of(network, one).alias())
        .collect();
    let prefix = alias_prefix(network);
    for link in host.links().map_err(Error::internal)? {
        let is_ours = link.kind == Kind::Other("ifb".into())
            && link.name.starts_with(PREFIX)
            && link
                .alias
                .as_ref()
                .is_some_and(|alias| alias.starts_with(&prefix) && !valid.contains(alias));
        if is_ours {
            remove(host, &link.name)?;
        }
    }
    Ok(())
}
