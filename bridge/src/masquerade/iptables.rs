//! Masquerade by iptables: in table `nat` a chain for each container and network, and a jump to it
//! for each address. Names, rules and comments are upstream's, so that either implementation cleans
//! up after the other.

use super::{READ, REMOVE, SET_UP};
use crate::{Error, error::Context, names};
use cni_conf::IpConfig;
use go_compat::cidr;
use packet_filter::{Iptables, Nft, Saved};
use plugin::Attachment;
use std::collections::HashSet;

const TABLE: &str = "nat";
const POSTROUTING: &str = "POSTROUTING";

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
        if !additions(owner, &rules, &saved).is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The families that can have a chain of this container and network, found without a process.
pub(crate) fn families(mut nft: Option<&mut Nft>, owner: &Attachment) -> Vec<Iptables> {
    let chain = names::iptables_chain(owner);
    let mut families = Vec::from([false, true].map(Iptables::of));
    families.retain(|iptables| {
        iptables.may_have_chain(nft.as_deref_mut(), TABLE, &chain) && iptables.is_installed()
    });
    families
}

/// Removes the chain of one container and network and each jump to it, found by name.
pub(crate) fn remove(families: &[Iptables], owner: &Attachment) -> Result<(), Error> {
    let chain = names::iptables_chain(owner);
    for &iptables in families {
        let saved = iptables.save(TABLE).context(READ)?;
        remove_chains(iptables, &saved, |name| name == chain)?;
    }
    Ok(())
}

/// Removes the chains of each container of the network that has no valid attachment.
pub(super) fn retain(network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let prefix = names::iptables_network_prefix(network);
    let valid: HashSet<String> = valid.iter().map(names::iptables_chain).collect();
    let installed = [false, true].map(Iptables::of).into_iter();
    for iptables in installed.filter(|iptables| iptables.is_installed()) {
        let saved = iptables.save(TABLE).context(READ)?;
        let stale: HashSet<&str> = jumps(&saved)
            .filter(|(chain, comment)| comment.starts_with(&prefix) && !valid.contains(*chain))
            .map(|(chain, _)| chain)
            .collect();
        remove_chains(iptables, &saved, |name| stale.contains(name))?;
    }
    Ok(())
}

fn remove_chains(
    iptables: Iptables,
    saved: &Saved,
    predicate: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let lines = saved.removal(predicate);
    iptables.restore(TABLE, &lines).context(REMOVE)
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
