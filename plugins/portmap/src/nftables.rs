//! The nftables back end: mappings are elements of two maps, so that the hundredth pod costs what the first did.
use crate::{
    conditional,
    conf::Conf,
    forward::{Forward, Protocol},
    go_rules,
    layout::{CONDITIONAL, Layout, SUBNETS, TABLE},
    owner::{self, Owner},
};
use cni_conf::Error;
use ipnetwork::IpNetwork;
use packet_filter::{Element, Installed, Nft, Part, Transaction, Value};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

/// How often a change is tried again that somebody else's crossed.
const ATTEMPTS: u32 = 50;

/// Elements, set by set as in [`Layout::sets`].
type Elements = [Vec<Element>; 4];

/// The back end, over one socket.
#[derive(Debug)]
pub(crate) struct Nftables {
    nft: Nft,
}

impl Nftables {
    /// In the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, packet_filter::Error> {
        Nft::open().map(|nft| Nftables { nft })
    }

    /// To look for what else is there.
    pub(crate) fn socket(&mut self) -> &mut Nft {
        &mut self.nft
    }

    /// Can a transaction be made here?
    pub(crate) fn probe(&mut self) -> Result<(), packet_filter::Error> {
        self.nft.generation().map(drop)
    }

    /// Makes the mappings of one family: in one transaction, but for those with conditions.
    pub(crate) fn add(
        &mut self,
        owner: &Owner,
        conf: &Conf,
        address: IpNetwork,
    ) -> Result<(), Error> {
        let container = address.ip();
        let layout = Layout::new(container.is_ipv6());
        let forwards = conf.forwards(container);
        if forwards.is_empty() {
            return Ok(());
        }
        let conditions = conf.conditions(layout.ipv6);
        let elements = elements(owner, conf, &forwards, address);
        self.commit_anew(|nft, evict| {
            let generation = nft.generation()?;
            let installed = nft.rules(layout.family(), TABLE, None)?;
            let mut transaction = Transaction::new();
            remove_rules(&layout, &installed, &mut transaction, |rule| {
                is_ours(rule, owner)
                    || go_rules::is_of_container(rule, &owner.container_id)
                    || forwards
                        .iter()
                        .any(|forward| go_rules::is_in_the_way(rule, forward))
            });
            if evict {
                let keep = |set: usize, found: &Element| {
                    let same_key = |new: &Element| new.key == found.key;
                    !is_owned(found, owner)
                        && !leads_to(found, container)
                        && !elements[set].iter().any(same_key)
                };
                remove_elements(nft, &layout, &mut transaction, keep)?;
            }
            // two at once must not both find the same missing
            if !layout.is_complete(&installed) {
                layout.install(&mut transaction);
                transaction.only_if(generation);
            }
            if !layout.has_subnet_rule(&installed, address.prefix()) {
                let rule = layout.subnet_rule(address.prefix());
                transaction.append(layout.family(), TABLE, SUBNETS, &rule);
                transaction.only_if(generation);
            }
            for (set, elements) in layout.sets().into_iter().zip(&elements) {
                transaction.create_elements(layout.family(), TABLE, &set.name, elements);
            }
            Ok(transaction)
        })
        .map_err(|error| Error::internal(format!("cannot map host ports: {error}")))?;
        if conditions.is_empty() {
            return Ok(());
        }
        conditional::add(owner, conditions, &forwards)
    }

    /// Takes away whatever is there of the attachment, in both families; the mappings that it had.
    pub(crate) fn del(&mut self, owner: &Owner) -> Result<Vec<Forward>, packet_filter::Error> {
        self.remove(
            |element| is_owned(element, owner),
            |rule| is_ours(rule, owner) || go_rules::is_of_container(rule, &owner.container_id),
        )
    }

    /// Takes away what belongs to this network and to none of the valid attachments. The Go plugin's rules name no network: they
    /// stay, since they may be another one's.
    pub(crate) fn gc(
        &mut self,
        network: &str,
        valid: &BTreeSet<String>,
    ) -> Result<Vec<Forward>, packet_filter::Error> {
        let stale = |comment: Option<&String>| {
            comment.is_some_and(|comment| {
                owner::is_of_network(comment, network) && !valid.contains(comment)
            })
        };
        self.remove(
            |element| stale(element.comment.as_ref()),
            |rule| rule.chain == CONDITIONAL && stale(rule.rule.comment.as_ref()),
        )
    }

    fn remove(
        &mut self,
        element: impl Fn(&Element) -> bool,
        rule: impl Fn(&Installed) -> bool,
    ) -> Result<Vec<Forward>, packet_filter::Error> {
        let mut mapped = Vec::new();
        for layout in [Layout::new(false), Layout::new(true)] {
            self.commit_anew(|nft, _| {
                let mut transaction = Transaction::new();
                let installed = nft.rules(layout.family(), TABLE, None)?;
                remove_rules(&layout, &installed, &mut transaction, &rule);
                // no rules, no table
                if !installed.is_empty() {
                    let keep = |_: usize, found: &Element| !element(found);
                    let removed = remove_elements(nft, &layout, &mut transaction, keep)?;
                    mapped.extend(removed.iter().filter_map(forward));
                }
                Ok(transaction)
            })?;
        }
        Ok(mapped)
    }

    /// Is every mapping there, with what leads to it?
    pub(crate) fn check(
        &mut self,
        owner: &Owner,
        conf: &Conf,
        address: IpNetwork,
    ) -> Result<(), Error> {
        let container = address.ip();
        let layout = Layout::new(container.is_ipv6());
        let forwards = conf.forwards(container);
        if forwards.is_empty() {
            return Ok(());
        }
        let family = layout.family();
        let installed = self
            .nft
            .rules(family, TABLE, None)
            .map_err(Error::internal)?;
        let by_go = |forward: &Forward| {
            installed.iter().any(|rule| {
                go_rules::is_of_container(rule, &owner.container_id)
                    && go_rules::serves(rule, forward)
            })
        };
        if forwards.iter().all(by_go) {
            return Ok(());
        }
        let missing = |what: &dyn std::fmt::Display| {
            Err(Error::internal(format!(
                "port mapping of container {}: {what} is missing in table {} {TABLE}; delete the container and start it again",
                owner.container_id,
                family.as_str()
            )))
        };
        if !layout.is_complete(&installed) || !layout.has_subnet_rule(&installed, address.prefix())
        {
            return missing(&"a chain or a rule that all mappings share");
        }
        if !conf.conditions(layout.ipv6).is_empty() {
            let found = installed.iter().filter(|rule| is_ours(rule, owner)).count();
            if found != forwards.len() {
                return missing(&format_args!("a rule ({found} of {})", forwards.len()));
            }
        }
        let wanted = elements(owner, conf, &forwards, address);
        for (set, wanted) in layout.sets().into_iter().zip(&wanted) {
            let found = match wanted.is_empty() {
                true => Vec::new(),
                false => self
                    .nft
                    .elements(family, TABLE, set)
                    .map_err(Error::internal)?,
            };
            if let Some(gone) = wanted.iter().find(|wanted| !found.contains(wanted)) {
                return match forward(gone) {
                    Some(forward) => missing(&forward),
                    None => missing(&format_args!("its element of {}", set.name)),
                };
            }
        }
        Ok(())
    }

    /// Builds a transaction from what is there and commits it; again with `evict` if others hold what it creates, and again if
    /// what it was built on changed meanwhile.
    fn commit_anew(
        &mut self,
        mut build: impl FnMut(&mut Nft, bool) -> Result<Transaction, packet_filter::Error>,
    ) -> Result<(), packet_filter::Error> {
        let mut evict = false;
        for attempt in 1.. {
            let transaction = build(&mut self.nft, evict)?;
            match self.nft.commit(&transaction) {
                Err(error) if attempt < ATTEMPTS && error.is_exists() => evict = true,
                Err(error) if attempt < ATTEMPTS && (error.is_absent() || error.is_outdated()) => {}
                done => return done,
            }
        }
        Ok(())
    }
}

fn is_ours(rule: &Installed, owner: &Owner) -> bool {
    let comment = rule.rule.comment.as_deref();
    rule.chain == CONDITIONAL && comment.is_some_and(|comment| owner.owns(comment))
}

fn is_owned(element: &Element, owner: &Owner) -> bool {
    let comment = element.comment.as_deref();
    comment.is_some_and(|comment| owner.owns(comment))
}

/// An element of another attachment that leads to an address which is now this container's: its owner is gone.
fn leads_to(element: &Element, container: IpAddr) -> bool {
    forward(element).is_some_and(|forward| forward.container == container)
}

fn remove_rules(
    layout: &Layout,
    installed: &[Installed],
    transaction: &mut Transaction,
    which: impl Fn(&Installed) -> bool,
) {
    for rule in installed.iter().filter(|rule| which(rule)) {
        transaction.delete_rule(layout.family(), TABLE, &rule.chain, rule.handle);
    }
}

/// Those that were not kept, of all sets.
fn remove_elements(
    nft: &mut Nft,
    layout: &Layout,
    transaction: &mut Transaction,
    keep: impl Fn(usize, &Element) -> bool,
) -> Result<Vec<Element>, packet_filter::Error> {
    let mut removed = Vec::new();
    for (position, set) in layout.sets().into_iter().enumerate() {
        let mut elements = nft.elements(layout.family(), TABLE, set)?;
        elements.retain(|element| !keep(position, element));
        transaction.delete_elements(layout.family(), TABLE, &set.name, &elements);
        removed.extend(elements);
    }
    Ok(removed)
}

/// What an attachment has in the maps and sets.
fn elements(owner: &Owner, conf: &Conf, forwards: &[Forward], address: IpNetwork) -> Elements {
    let container = address.ip();
    let element = |key: Vec<Part>, value: Option<Value>| Element {
        key,
        value,
        comment: Some(owner.comment()),
    };
    let [mut any_ip, mut host_ip, mut pairs, mut all] = Elements::default();
    let by_map = conf.conditions(container.is_ipv6()).is_empty();
    for forward in forwards.iter().filter(|_| by_map) {
        let port = [
            Part::Protocol(forward.protocol.number()),
            Part::Port(forward.host_port),
        ];
        let target = Value::Data(vec![
            Part::Ip(forward.container),
            Part::Port(forward.container_port),
        ]);
        match forward.host_ip {
            None => any_ip.push(element(port.to_vec(), Some(target))),
            Some(ip) => {
                let key = [&[Part::Ip(ip)], &port[..]].concat();
                host_ip.push(element(key, Some(target)));
            }
        }
    }
    if conf.snat && conf.masq_all {
        all.push(element(vec![Part::Ip(container)], None));
    } else if conf.snat {
        let localhost = (!container.is_ipv6()).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for source in std::iter::once(address.network()).chain(localhost) {
            pairs.push(element(vec![Part::Ip(source), Part::Ip(container)], None));
        }
    }
    [any_ip, host_ip, pairs, all]
}

/// The mapping that an element of a map stands for.
fn forward(element: &Element) -> Option<Forward> {
    let (host_ip, protocol, host_port) = match element.key.as_slice() {
        [Part::Protocol(protocol), Part::Port(port)] => (None, protocol, port),
        [Part::Ip(ip), Part::Protocol(protocol), Part::Port(port)] => (Some(*ip), protocol, port),
        _ => return None,
    };
    let Some(Value::Data(target)) = &element.value else {
        return None;
    };
    let [Part::Ip(container), Part::Port(container_port)] = target.as_slice() else {
        return None;
    };
    Some(Forward {
        protocol: Protocol::ALL
            .into_iter()
            .find(|known| known.number() == *protocol)?,
        host_ip,
        host_port: *host_port,
        container: *container,
        container_port: *container_port,
    })
}
