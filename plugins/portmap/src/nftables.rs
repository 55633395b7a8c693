//! The nftables back end: mappings are elements of two maps, so lookup and ADD cost the same
//! however many pods a node has.

use crate::{
    comment::{self, comment, names, names_network},
    conditional,
    error::Failure,
    forward::{Forward, Protocol},
    go_rules,
    holder::{Container, Holder},
    layout::{CONDITIONAL, Layout, SUBNETS, TABLE},
    leftover::Owners,
    mappings::Mappings,
};
use packet_filter::{Element, Error, Installed, Nft, Part, Transaction, Value};
use plugin::Attachment;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

/// How often a transaction is built and committed at most, if other programs change the table
/// meanwhile.
const ATTEMPTS: u32 = 50;

/// Elements of each set, in the order of [`Layout::sets`].
type Elements = [Vec<Element>; 4];

#[derive(Debug)]
pub(crate) struct Nftables {
    pub(crate) nft: Nft,
}

impl Nftables {
    /// In the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        Nft::open().map(|nft| Nftables { nft })
    }

    /// Adds the mappings of one family in one transaction, except those with conditions.
    pub(crate) fn add(&mut self, mappings: &Mappings<'_>) -> Result<(), Failure> {
        let elements = elements(mappings);
        self.commit(|nft, evict| replacement(nft, mappings, elements.clone(), evict))?;
        match mappings.conditions() {
            [] => Ok(()),
            conditions => conditional::add(mappings).map_err(|source| Failure::Conditions {
                conditions: conditions.to_vec(),
                source,
            }),
        }
    }

    /// Removes everything of the attachment in both families. Returns the mappings that it had.
    pub(crate) fn del(
        &mut self,
        owner: &Attachment,
        container: &Container,
    ) -> Result<Vec<Forward>, Error> {
        self.remove(
            |element| is_element_of(element, owner),
            |rule| is_rule_of(rule, owner, container),
        )
    }

    /// Removes what belongs to this network and to no valid attachment. The Go plugin's rules do
    /// not name a network and may belong to another one, so they stay.
    pub(crate) fn gc(
        &mut self,
        network: &str,
        valid: &[Attachment],
    ) -> Result<Vec<Forward>, Error> {
        let valid: BTreeSet<String> = valid.iter().map(comment).collect();
        let is_stale = |comment: Option<&String>| {
            comment
                .is_some_and(|comment| names_network(comment, network) && !valid.contains(comment))
        };
        self.remove(
            |element| is_stale(element.comment.as_ref()),
            |rule| rule.chain == CONDITIONAL && is_stale(rule.rule.comment.as_ref()),
        )
    }

    /// The comments of all elements and conditional rules, with the addresses that they lead to.
    pub(crate) fn owners(&mut self) -> Result<Owners, Error> {
        let mut owners = Owners::new();
        for layout in [Layout::new(false), Layout::new(true)] {
            let installed = self.nft.rules(layout.family(), TABLE, None)?;
            if installed.is_empty() {
                continue;
            }
            let mut add = |comment: Option<String>, address: Option<IpAddr>| {
                if let Some((comment, address)) = comment.zip(address) {
                    owners.entry(comment).or_default().insert(address);
                }
            };
            for set in layout.sets() {
                for element in self.nft.elements(layout.family(), TABLE, set)? {
                    let target = forward(&element).map(|forward| forward.container);
                    add(element.comment, target);
                }
            }
            for Installed { chain, rule, .. } in installed {
                if chain == CONDITIONAL {
                    let target = rule.dnat_address();
                    add(rule.comment, target);
                }
            }
        }
        Ok(owners)
    }

    /// Removes what has these comments.
    pub(crate) fn remove_owners(&mut self, owners: &Owners) -> Result<Vec<Forward>, Error> {
        let is_theirs =
            |comment: Option<&String>| comment.is_some_and(|one| owners.contains_key(one));
        self.remove(
            |element| is_theirs(element.comment.as_ref()),
            |rule| rule.chain == CONDITIONAL && is_theirs(rule.rule.comment.as_ref()),
        )
    }

    fn remove(
        &mut self,
        selects_element: impl Fn(&Element) -> bool,
        selects_rule: impl Fn(&Installed) -> bool,
    ) -> Result<Vec<Forward>, Error> {
        let mut mapped = Vec::new();
        for layout in [Layout::new(false), Layout::new(true)] {
            self.commit(|nft, _| {
                let mut transaction = Transaction::new();
                let installed = nft.rules(layout.family(), TABLE, None)?;
                delete_rules(&layout, &installed, &mut transaction, &selects_rule);
                // a table without rules does not exist or holds nothing of ours
                if !installed.is_empty() {
                    // elements are deleted by key, and a later ADD may have created others with it
                    let generation = nft.generation()?;
                    let selects = |_: usize, element: &Element| selects_element(element);
                    let removed = delete_elements(nft, &layout, &mut transaction, selects)?;
                    if !removed.is_empty() {
                        transaction.only_if(generation);
                    }
                    mapped.extend(removed.iter().filter_map(forward));
                }
                Ok::<_, Error>(transaction)
            })?;
        }
        Ok(mapped)
    }

    /// Err: the first part of the mappings that is missing.
    pub(crate) fn check(&mut self, mappings: &Mappings<'_>) -> Result<(), Failure> {
        let layout = Layout::new(mappings.ipv6());
        let family = layout.family();
        let installed = self.nft.rules(family, TABLE, None);
        let installed = installed.map_err(Failure::Check)?;
        if is_served_by_go(&installed, mappings) {
            return Ok(());
        }
        let missing = match missing_rule(&layout, &installed, mappings) {
            None => (self.missing_element(&layout, mappings)).map_err(Failure::Check)?,
            rule => rule,
        };
        match missing {
            None => Ok(()),
            Some(what) => Err(Failure::Missing {
                container_id: mappings.owner.container_id.clone(),
                what,
                table: format!("table {} {TABLE}", family.as_str()),
            }),
        }
    }

    fn missing_element(
        &mut self,
        layout: &Layout,
        mappings: &Mappings<'_>,
    ) -> Result<Option<String>, Error> {
        let mut any_ip = Vec::new();
        for (set, wanted) in layout.sets().into_iter().zip(elements(mappings)) {
            if wanted.is_empty() {
                continue;
            }
            let found = self.nft.elements(layout.family(), TABLE, set)?;
            if *set == layout.host_ip {
                any_ip = self.nft.elements(layout.family(), TABLE, &layout.any_ip)?;
            }
            let others = mappings.container.others();
            // another interface of the container had the host port first
            let is_kept = |wanted: &&Element| {
                let wanted = forward(wanted);
                let mut held = found.iter().chain(&any_ip).filter_map(forward);
                wanted.is_some_and(|wanted| {
                    held.any(|held| held.covers(&wanted) && others.contains(&held.container))
                })
            };
            let mut missing = wanted.iter().filter(|wanted| !found.contains(wanted));
            if let Some(missing) = missing.find(|missing| !is_kept(missing)) {
                let mapping = forward(missing).map(|forward| forward.to_string());
                let what = mapping.unwrap_or_else(|| format!("its element of {}", set.name));
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Commits what `build` makes of the table's state. Builds again if the state changed
    /// meanwhile, and with `evict` if others have what the transaction creates.
    fn commit<E: From<Error>>(
        &mut self,
        mut build: impl FnMut(&mut Nft, bool) -> Result<Transaction, E>,
    ) -> Result<(), E> {
        let (mut evict, mut attempts) = (false, 1);
        loop {
            let transaction = build(&mut self.nft, evict)?;
            match self.nft.commit(&transaction) {
                Err(error) if attempts < ATTEMPTS && error.is_exists() => evict = true,
                Err(error) if attempts < ATTEMPTS && (error.is_absent() || error.is_outdated()) => {
                }
                done => return done.map_err(E::from),
            }
            attempts += 1;
        }
    }
}

/// A transaction that replaces all that the attachment has. With `evict` it also removes elements
/// with the same keys, and elements that lead to the same container address, whose owners no longer
/// exist. Err: a container that exists has a host port.
fn replacement(
    nft: &mut Nft,
    mappings: &Mappings<'_>,
    mut elements: Elements,
    evict: bool,
) -> Result<Transaction, Failure> {
    let Mappings { owner, address, .. } = *mappings;
    let layout = Layout::new(mappings.ipv6());
    let family = layout.family();
    let generation = nft.generation()?;
    let installed = nft.rules(family, TABLE, None)?;
    let mut transaction = Transaction::new();
    // a mapping of one host address hides those of any address, which have other keys
    let has_host_ip = mappings.forwards.iter().any(|one| one.host_ip.is_some());
    let evict = evict || (has_host_ip && !installed.is_empty());
    let obsolete = obsolete_rules(&installed, mappings)?;
    delete_rules(&layout, &installed, &mut transaction, |rule| {
        obsolete.contains(&rule.handle)
    });
    if evict {
        let kept = kept_elements(nft, &layout, mappings, &elements)?;
        for (elements, kept) in elements.iter_mut().zip(&kept) {
            elements.retain(|new| !kept.contains(&new.key));
        }
        delete_elements(nft, &layout, &mut transaction, |set, found| {
            !kept[set].contains(&found.key)
                && (is_element_of(found, owner)
                    || forward(found).is_some_and(|forward| forward.container == address.ip())
                    || elements[set].iter().any(|new| new.key == found.key))
        })?;
        // elements are deleted by key: those that were judged
        transaction.only_if(generation);
    }
    // only_if: otherwise two processes could both add the same missing rules
    if !layout.is_complete(&installed) {
        layout.install(&mut transaction);
        transaction.only_if(generation);
    }
    if !layout.has_subnet_rule(&installed, address.prefix()) {
        let rule = layout.subnet_rule(address.prefix());
        transaction.append(family, TABLE, SUBNETS, &rule);
        transaction.only_if(generation);
    }
    for (set, elements) in layout.sets().into_iter().zip(&elements) {
        transaction.create_elements(family, TABLE, &set.name, elements);
    }
    Ok(transaction)
}

/// The handles of the rules that the new mappings replace: the attachment's own, and those of the
/// Go plugin for the same host ports.
fn obsolete_rules(
    installed: &[Installed],
    mappings: &Mappings<'_>,
) -> Result<BTreeSet<u64>, Failure> {
    let Mappings {
        owner, container, ..
    } = *mappings;
    let mut obsolete = BTreeSet::new();
    for rule in installed {
        let mut forwards = mappings.forwards.iter();
        let shadowed = forwards.find(|forward| go_rules::shadows(rule, forward));
        let held = shadowed.zip(rule.rule.dnat_address());
        let is_obsolete = match held {
            _ if is_rule_of(rule, owner, container) => true,
            Some((forward, address)) => {
                let held = Forward {
                    container: address,
                    ..*forward
                };
                let holder = comment::owner(rule.rule.comment.as_deref());
                container.judge(&held, &holder)? == Holder::Gone
            }
            None => shadowed.is_some(),
        };
        if is_obsolete {
            obsolete.insert(rule.handle);
        }
    }
    Ok(obsolete)
}

/// The keys of each set whose host ports another interface of the container has, and keeps. Err:
/// another container that exists has one.
fn kept_elements(
    nft: &mut Nft,
    layout: &Layout,
    mappings: &Mappings<'_>,
    elements: &Elements,
) -> Result<[Vec<Vec<Part>>; 4], Failure> {
    let mut kept = <[Vec<Vec<Part>>; 4]>::default();
    for set in [&layout.any_ip, &layout.host_ip] {
        for found in nft.elements(layout.family(), TABLE, set)? {
            let Some(held) = forward(&found).filter(|_| !is_element_of(&found, mappings.owner))
            else {
                continue;
            };
            let holder = comment::owner(found.comment.as_deref());
            for (elements, kept) in elements.iter().zip(&mut kept) {
                let is_wanted =
                    |new: &&Element| forward(new).is_some_and(|wanted| held.covers(&wanted));
                for new in elements.iter().filter(is_wanted) {
                    if mappings.container.judge(&held, &holder)? == Holder::OtherInterface {
                        kept.push(new.key.clone());
                    }
                }
            }
        }
    }
    Ok(kept)
}

fn is_served_by_go(installed: &[Installed], mappings: &Mappings<'_>) -> bool {
    let container_id = &mappings.owner.container_id;
    mappings.forwards.iter().all(|forward| {
        installed.iter().any(|rule| {
            go_rules::is_of_container(rule, container_id) && go_rules::serves(rule, forward)
        })
    })
}

fn missing_rule(
    layout: &Layout,
    installed: &[Installed],
    mappings: &Mappings<'_>,
) -> Option<String> {
    let prefix = mappings.address.prefix();
    if !layout.is_complete(installed) || !layout.has_subnet_rule(installed, prefix) {
        return Some("a chain or a rule that all mappings share".to_owned());
    }
    let is_own = |rule: &&Installed| is_conditional_of(rule, mappings.owner);
    let (found, wanted) = (
        installed.iter().filter(is_own).count(),
        mappings.forwards.len(),
    );
    (!mappings.conditions().is_empty() && found != wanted)
        .then(|| format!("a rule ({found} of {wanted})"))
}

fn is_conditional_of(rule: &Installed, owner: &Attachment) -> bool {
    let comment = rule.rule.comment.as_deref();
    rule.chain == CONDITIONAL && comment.is_some_and(|comment| names(comment, owner))
}

/// Also true for the Go plugin's rules, which do not name an interface, unless they lead to another
/// interface of the container.
fn is_rule_of(rule: &Installed, owner: &Attachment, container: &Container) -> bool {
    is_conditional_of(rule, owner)
        || go_rules::is_of_container(rule, &owner.container_id)
            && !(rule.rule.dnat_address()).is_some_and(|ip| container.others().contains(&ip))
}

fn is_element_of(element: &Element, owner: &Attachment) -> bool {
    let comment = element.comment.as_deref();
    comment.is_some_and(|comment| names(comment, owner))
}

fn delete_rules(
    layout: &Layout,
    installed: &[Installed],
    transaction: &mut Transaction,
    selects: impl Fn(&Installed) -> bool,
) {
    for rule in installed.iter().filter(|rule| selects(rule)) {
        transaction.delete_rule(layout.family(), TABLE, &rule.chain, rule.handle);
    }
}

/// `selects` gets the position of the set in [`Layout::sets`]. Returns the deleted elements.
fn delete_elements(
    nft: &mut Nft,
    layout: &Layout,
    transaction: &mut Transaction,
    selects: impl Fn(usize, &Element) -> bool,
) -> Result<Vec<Element>, Error> {
    let mut deleted = Vec::new();
    for (position, set) in layout.sets().into_iter().enumerate() {
        let mut elements = nft.elements(layout.family(), TABLE, set)?;
        elements.retain(|element| selects(position, element));
        transaction.delete_elements(layout.family(), TABLE, &set.name, &elements);
        deleted.extend(elements);
    }
    Ok(deleted)
}

fn elements(mappings: &Mappings<'_>) -> Elements {
    let (conf, container) = (mappings.conf, mappings.address.ip());
    let comment = comment(mappings.owner);
    let element = |key: Vec<Part>, value: Option<Value>| Element {
        key,
        value,
        comment: Some(comment.clone()),
    };
    let [mut any_ip, mut host_ip, mut pairs, mut all] = Elements::default();
    if mappings.conditions().is_empty() {
        for forward in &mappings.forwards {
            let port = [
                Part::Protocol(forward.protocol as u8),
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
    }
    if conf.snat && conf.masq_all {
        all.push(element(vec![Part::Ip(container)], None));
    } else if conf.snat {
        let localhost = (!mappings.ipv6()).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for source in std::iter::once(mappings.address.network()).chain(localhost) {
            pairs.push(element(vec![Part::Ip(source), Part::Ip(container)], None));
        }
    }
    [any_ip, host_ip, pairs, all]
}

/// The mapping that an element of a map stands for; None for an element of another set.
fn forward(element: &Element) -> Option<Forward> {
    let (host_ip, protocol, host_port) = match *element.key.as_slice() {
        [Part::Protocol(protocol), Part::Port(port)] => (None, protocol, port),
        [Part::Ip(ip), Part::Protocol(protocol), Part::Port(port)] => (Some(ip), protocol, port),
        _ => return None,
    };
    let Some(Value::Data(target)) = &element.value else {
        return None;
    };
    let [Part::Ip(container), Part::Port(container_port)] = *target.as_slice() else {
        return None;
    };
    Some(Forward {
        protocol: Protocol::from_number(protocol)?,
        host_ip,
        host_port,
        container,
        container_port,
    })
}
