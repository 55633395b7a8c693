//! Masquerade by iptables: in table `nat` a chain for each attachment, and a jump to it for each
//! address. For `eth0`, names, rules and comments are upstream's, so that either implementation
//! cleans up after the other. Upstream has one chain for all interfaces of a container in a
//! network; rules in such a chain belong to the interface that has their address.

use super::{READ, REMOVE, SET_UP};
use crate::{Error, error::Context, filter::open_nft, names};
use cni_conf::IpConfig;
use go_compat::cidr;
use ipnetwork::IpNetwork;
use packet_filter::{Iptables, Nft, Saved};
use plugin::Attachment;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    iter,
    net::IpAddr,
};

const TABLE: &str = "nat";
const POSTROUTING: &str = "POSTROUTING";

/// Chains, each with the addresses that lead to it.
pub(crate) type Sources = BTreeMap<String, BTreeSet<IpAddr>>;

pub(super) fn add(owner: &Attachment, ips: &[IpConfig]) -> Result<(), Error> {
    wanted(owner, ips).try_for_each(|(iptables, rules)| install(iptables, owner, &rules))
}

/// One process if the container has no chain yet, three otherwise.
fn install(iptables: Iptables, owner: &Attachment, rules: &[String]) -> Result<(), Error> {
    // fails as a whole if the chain exists: from another interface of the container, or a lost DEL
    let mut lines = vec![format!("-N {}", names::iptables_chain(owner))];
    lines.extend(rules.iter().cloned());
    if iptables.restore(TABLE, &lines).is_ok() {
        return Ok(());
    }
    let saved = iptables.save(TABLE).context(SET_UP)?;
    let lines = additions(owner, rules, &saved);
    iptables.restore(TABLE, &lines).context(SET_UP)
}

pub(super) fn is_complete(owner: &Attachment, ips: &[IpConfig]) -> Result<bool, Error> {
    for (iptables, rules) in wanted(owner, ips) {
        let saved = iptables.save(TABLE).context(READ)?;
        if !additions(owner, &rules, &saved).is_empty()
            && !has_shared_jumps(owner, iptables, ips, &saved)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True if the addresses of this family are masqueraded by the chain that an earlier version, or
/// upstream, made for all interfaces of the container.
fn has_shared_jumps(
    owner: &Attachment,
    iptables: Iptables,
    ips: &[IpConfig],
    saved: &Saved,
) -> bool {
    let shared = names::iptables_shared_chain(owner);
    let mut of_family =
        (ips.iter().map(|ip| ip.address.ip())).filter(|ip| Iptables::of(ip.is_ipv6()) == iptables);
    names::iptables_chain(owner) != shared
        && of_family.all(|ip| {
            let source = cidr::host(ip).to_string();
            shared_jumps(saved, &shared).any(|(found, _)| found == source)
        })
}

/// The families that can have a chain of this attachment, found without a process.
pub(crate) fn families(
    mut nft: Option<&mut Nft>,
    owner: &Attachment,
) -> Result<Vec<Iptables>, Error> {
    let mut chains = vec![names::iptables_chain(owner)];
    chains.extend(Some(names::iptables_shared_chain(owner)).filter(|name| *name != chains[0]));
    let mut families = Vec::new();
    for iptables in [false, true].map(Iptables::of) {
        for chain in &chains {
            let possible = iptables.may_have_chain(nft.as_deref_mut(), TABLE, chain);
            if possible.context(READ)? && !families.contains(&iptables) {
                families.push(iptables);
            }
        }
    }
    Ok(families)
}

/// Which rules in a chain that all interfaces of a container share belong to one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    /// The container is gone, so every rule is obsolete.
    pub(crate) all: bool,
    /// The interface's addresses, from prevResult.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Removes the chain of one attachment and each jump to it, found by name, and the attachment's
/// rules of the chain that its container's interfaces share.
pub(crate) fn remove(
    families: &[Iptables],
    owner: &Attachment,
    shared: &Shared,
) -> Result<(), Error> {
    for iptables in families {
        let removal = |saved: &Saved| removal_of(owner, shared, saved);
        iptables.change(TABLE, removal).context(REMOVE)?;
    }
    Ok(())
}

fn removal_of(owner: &Attachment, of_interface: &Shared, saved: &Saved) -> Vec<String> {
    let own = names::iptables_chain(owner);
    let shared = names::iptables_shared_chain(owner);
    let (mine, others): (Vec<_>, Vec<_>) = shared_jumps(saved, &shared).partition(|(source, _)| {
        let mut addresses = of_interface.addresses.iter();
        addresses.any(|ip| cidr::host(*ip).to_string() == *source)
    });
    if of_interface.all || (others.is_empty() && !mine.is_empty()) {
        return saved.removal(|name| name == own || name == shared);
    }
    let mut lines = saved.removal(|name| name == own);
    if own != shared {
        lines.extend(mine.into_iter().map(|(_, rule)| format!("-D {rule}")));
    }
    lines
}

/// (source, rule without `-A`) of each rule that leads an address to the chain.
fn shared_jumps<'s>(saved: &'s Saved, chain: &str) -> impl Iterator<Item = (&'s str, &'s str)> {
    let start = format!("{POSTROUTING} -s ");
    let end = format!(" -j {chain}");
    saved.rules.iter().filter_map(move |line| {
        let rule = line.strip_prefix("-A ")?;
        let (source, _) = rule.strip_prefix(&start)?.split_once(' ')?;
        rule.ends_with(&end).then_some((source, rule))
    })
}

/// Removes the chains of each attachment to the network that is not valid.
pub(super) fn retain(network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let installed = [false, true].map(Iptables::of).into_iter();
    for iptables in installed.filter(|iptables| iptables.is_installed()) {
        let removal = |saved: &Saved| {
            let stale = stale(saved, network, valid);
            saved.removal(|name| stale.contains(name))
        };
        iptables.change(TABLE, removal).context(REMOVE)?;
    }
    Ok(())
}

/// The chains of the network's attachments that are not valid. The chain that the interfaces of a
/// container share stays if one that is valid has no chain of its own: its rules may be in it.
fn stale<'s>(saved: &'s Saved, network: &str, valid: &[Attachment]) -> HashSet<&'s str> {
    let prefix = names::iptables_network_prefix(network);
    let chains = |owner: &Attachment| {
        let own = names::iptables_chain(owner);
        let has_own = saved.chains.contains(&own);
        let shared = (!has_own).then(|| names::iptables_shared_chain(owner));
        iter::once(own).chain(shared)
    };
    let valid: HashSet<String> = valid.iter().flat_map(chains).collect();
    jumps(saved)
        .filter(|(chain, comment)| comment.starts_with(&prefix) && !valid.contains(*chain))
        .map(|(chain, _)| chain)
        .collect()
}

/// The chains of all containers that iptables masquerades, with their addresses.
pub(crate) fn sources() -> Result<Sources, Error> {
    let mut sources = Sources::new();
    for iptables in families_in_use()? {
        let saved = iptables.save(TABLE).context(READ)?;
        for (chain, _) in jumps(&saved) {
            let addresses = shared_jumps(&saved, chain)
                .filter_map(|(source, _)| source.parse::<IpNetwork>().ok())
                .map(|source| source.ip());
            let known = sources.entry(chain.to_owned()).or_default();
            known.extend(addresses);
        }
    }
    Ok(sources)
}

fn families_in_use() -> Result<Vec<Iptables>, Error> {
    let mut nft = open_nft()?;
    let mut families = Vec::new();
    for iptables in [false, true].map(Iptables::of) {
        let may_have = iptables.may_have_chain(nft.as_mut(), TABLE, POSTROUTING);
        if may_have.context(READ)? && iptables.is_installed() {
            families.push(iptables);
        }
    }
    Ok(families)
}

/// Removes these chains.
pub(crate) fn remove_sources(sources: &Sources) -> Result<(), Error> {
    for iptables in families_in_use()? {
        let removal = |saved: &Saved| saved.removal(|chain| sources.contains_key(chain));
        iptables.change(TABLE, removal).context(REMOVE)?;
    }
    Ok(())
}

/// The rules of each family that has addresses.
fn wanted(owner: &Attachment, ips: &[IpConfig]) -> impl Iterator<Item = (Iptables, Vec<String>)> {
    [false, true].into_iter().filter_map(move |ipv6| {
        let ips = ips.iter().filter(|ip| ip.address.is_ipv6() == ipv6);
        let ips: Vec<_> = ips.collect();
        (!ips.is_empty()).then(|| (Iptables::of(ipv6), rules(owner, &ips)))
    })
}

/// The rules of one family as `iptables-save` prints them: all packets except those to the own
/// subnet and to multicast addresses are masqueraded.
fn rules(owner: &Attachment, ips: &[&IpConfig]) -> Vec<String> {
    let chain = names::iptables_chain(owner);
    let comment = quoted(&names::iptables_comment(owner));
    let comment = format!("-m comment --comment {comment}");
    let mut rules: Vec<String> = Vec::new();
    let mut push = |rule: String| {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    };
    for ip in ips {
        let subnet = cidr::masked(ip.address);
        push(format!("-A {chain} -d {subnet} {comment} -j ACCEPT"));
    }
    for ip in ips {
        let multicast = match ip.address.is_ipv4() {
            true => "224.0.0.0/4",
            false => "ff00::/8",
        };
        push(format!(
            "-A {chain} ! -d {multicast} {comment} -j MASQUERADE"
        ));
        let address = cidr::host(ip.address.ip());
        push(format!(
            "-A {POSTROUTING} -s {address} {comment} -j {chain}"
        ));
    }
    rules
}

/// Quoted as `iptables-save` quotes a comment.
fn quoted(comment: &str) -> String {
    format!("\"{}\"", comment.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The commands that add what is missing. The exception of a subnet precedes the masquerade rule.
fn additions(owner: &Attachment, rules: &[String], saved: &Saved) -> Vec<String> {
    let chain = names::iptables_chain(owner);
    let mut lines = Vec::new();
    if !saved.chains.contains(&chain) {
        lines.push(format!("-N {chain}"));
    }
    let exception = format!("-A {chain} -d ");
    for rule in rules.iter().filter(|rule| !saved.rules.contains(rule)) {
        lines.push(match rule.strip_prefix(&exception) {
            Some(rest) => format!("-I {chain} -d {rest}"),
            None => rule.clone(),
        });
    }
    lines
}

/// The containers' chains to which POSTROUTING jumps, each with the rule's unquoted comment.
fn jumps(saved: &Saved) -> impl Iterator<Item = (&str, String)> {
    saved.rules.iter().filter_map(|line| {
        let rule = line.strip_prefix("-A ")?;
        rule.strip_prefix(POSTROUTING)?;
        let (_, chain) = rule.rsplit_once(" -j ")?;
        let comment = rule.split_once("--comment \"").map_or("", |(_, rest)| rest);
        let comment = comment.replace("\\\"", "\"");
        chain.starts_with("CNI-").then_some((chain, comment))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHAIN: &str = "CNI-2bbe0c48b91a7d1b8a6753a8";

    fn owner() -> Attachment {
        Attachment::new("test", "1234", "eth0")
    }

    fn ip(address: &str) -> IpConfig {
        IpConfig {
            interface: Some(2),
            address: address.parse().unwrap(),
            gateway: None,
        }
    }

    fn comment() -> &'static str {
        r#"-m comment --comment "name: \"test\" id: \"1234\"""#
    }

    #[test]
    fn rules_equal_upstreams() {
        let ip = ip("10.1.0.5/24");
        assert_eq!(
            rules(&owner(), &[&ip]),
            [
                format!("-A {CHAIN} -d 10.1.0.0/24 {} -j ACCEPT", comment()),
                format!("-A {CHAIN} ! -d 224.0.0.0/4 {} -j MASQUERADE", comment()),
                format!("-A POSTROUTING -s 10.1.0.5/32 {} -j {CHAIN}", comment()),
            ]
        );
        assert!(rules(&owner(), &[]).is_empty());
    }

    #[test]
    fn second_interface_adds_only_the_missing_rules() {
        let (first, second) = (ip("10.1.0.5/24"), ip("10.2.0.5/24"));
        let saved = Saved {
            chains: vec![CHAIN.into()],
            rules: rules(&owner(), &[&first]),
        };
        assert!(additions(&owner(), &saved.rules, &saved).is_empty());
        assert_eq!(
            additions(&owner(), &rules(&owner(), &[&second]), &saved),
            [
                format!("-I {CHAIN} -d 10.2.0.0/24 {} -j ACCEPT", comment()),
                format!("-A POSTROUTING -s 10.2.0.5/32 {} -j {CHAIN}", comment()),
            ]
        );
    }

    #[test]
    fn an_interface_takes_only_its_own_rules_of_a_shared_chain() {
        let second = Attachment::new("test", "1234", "net1");
        let mut saved = Saved {
            chains: vec![POSTROUTING.into(), CHAIN.into()],
            rules: rules(&owner(), &[&ip("10.1.0.5/24"), &ip("10.2.0.5/24")]),
        };
        let removal = |all: bool, addresses: &[&str], saved: &Saved| {
            let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            removal_of(&second, &Shared { all, addresses }, saved)
        };
        assert!(removal(false, &[], &saved).is_empty());
        assert_eq!(
            removal(false, &["10.2.0.5"], &saved),
            [format!(
                "-D POSTROUTING -s 10.2.0.5/32 {} -j {CHAIN}",
                comment()
            )]
        );
        let last = format!("-X {CHAIN}");
        assert_eq!(removal(true, &[], &saved).last(), Some(&last));
        saved.rules.retain(|rule| !rule.contains("-s 10.1.0.5/32"));
        assert_eq!(removal(false, &["10.2.0.5"], &saved).last(), Some(&last));
    }

    #[test]
    fn gc_takes_the_chain_of_an_interface_that_is_gone() {
        let second = Attachment::new("test", "1234", "net1");
        let mut saved = Saved {
            chains: vec![POSTROUTING.into(), CHAIN.into()],
            rules: rules(&owner(), &[&ip("10.1.0.5/24")]),
        };
        let valid = [second.clone()];
        // upstream's, which may be for the second interface
        assert!(stale(&saved, "test", &valid).is_empty());
        saved.chains.push(names::iptables_chain(&second));
        saved.rules.extend(rules(&second, &[&ip("10.2.0.5/24")]));
        assert_eq!(stale(&saved, "test", &valid), [CHAIN].into());
        assert!(stale(&saved, "test", &[owner(), second]).is_empty());
        assert!(stale(&saved, "tes", &[]).is_empty());
    }

    #[test]
    fn removal_deletes_the_chain_and_the_jumps_to_it() {
        let mut saved = Saved {
            chains: vec![POSTROUTING.into(), CHAIN.into(), "CNI-other".into()],
            rules: rules(&owner(), &[&ip("10.1.0.5/24")]),
        };
        saved
            .rules
            .push("-A POSTROUTING -s 10.1.0.6/32 -j CNI-other".into());
        assert_eq!(
            saved.removal(|chain| chain == CHAIN),
            [
                format!("-D POSTROUTING -s 10.1.0.5/32 {} -j {CHAIN}", comment()),
                format!("-F {CHAIN}"),
                format!("-X {CHAIN}"),
            ]
        );
        assert!(saved.removal(|chain| chain == "CNI-absent").is_empty());
    }

    #[test]
    fn comment_of_a_jump_names_its_network() {
        let saved = Saved {
            chains: Vec::new(),
            rules: rules(&owner(), &[&ip("fd00::5/64")]),
        };
        let found: Vec<_> = jumps(&saved).map(|(_, comment)| comment).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&names::iptables_network_prefix("test")));
        assert!(!found[0].starts_with(&names::iptables_network_prefix("tes")));
    }

    const RULE: &str = "-A (POSTROUTING|CNI-x|OTHER)( -s [0-9.]{1,9})?( --comment \"[a-z\\\\\" ]{0,9}\")?( -j (CNI-x|CNI-y|OTHER))?";

    proptest! {
        /// Whatever a table holds, the written lines concern only the plugin's own chains.
        #[test]
        fn removal_leaves_other_rules_alone(rules in prop::collection::vec(RULE, 0..8)) {
            let chains = ["CNI-x", "CNI-y", "OTHER"].map(str::to_owned).into();
            let saved = Saved { chains, rules };
            for line in saved.removal(|chain| chain == "CNI-x") {
                let jump = line.starts_with("-D ") && line.ends_with(" -j CNI-x");
                prop_assert!(jump || line == "-F CNI-x" || line == "-X CNI-x", "{}", line);
            }
        }
    }
}
