//! Masquerade by iptables: in table nat a chain per container and network, and a jump to it per address. Names, rules and
//! comments are upstream's, so that either implementation cleans up after the other.
use crate::{
    Error,
    filter::failed,
    names::{Owner, masquerade_network_prefix},
};
use cni_conf::IpConfig;
use go_compat::cidr;
use packet_filter::{Iptables, Nft, iptables::Saved};
use std::collections::HashSet;

const TABLE: &str = "nat";
const POSTROUTING: &str = "POSTROUTING";

/// Masquerades what these addresses send out of their subnets. One process a family where the container is new.
pub fn add(owner: &Owner, ips: &[IpConfig]) -> Result<(), Error> {
    let failed = failed("failed to set up the masquerade rules");
    for ipv6 in [false, true] {
        let rules = rules(owner, &family(ips, ipv6));
        if rules.is_empty() {
            continue;
        }
        let iptables = Iptables::of(ipv6);
        // refused as a whole if the chain is there: another interface of the container has it, or a lost DEL left it
        let mut lines = vec![format!("-N {}", owner.masquerade_chain())];
        lines.extend(rules.iter().cloned());
        if iptables.restore(TABLE, &lines).is_ok() {
            continue;
        }
        let saved = iptables.save(TABLE).map_err(failed)?;
        let lines = additions(owner, &rules, &saved);
        iptables.restore(TABLE, &lines).map_err(failed)?;
    }
    Ok(())
}

/// The rules of these addresses are in place.
pub fn is_complete(owner: &Owner, ips: &[IpConfig]) -> Result<bool, Error> {
    for ipv6 in [false, true] {
        let rules = rules(owner, &family(ips, ipv6));
        if rules.is_empty() {
            continue;
        }
        let saved = Iptables::of(ipv6).save(TABLE);
        let saved = saved.map_err(failed("failed to read the masquerade rules"))?;
        if !additions(owner, &rules, &saved).is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The families in which there can be a chain of this container and network, found out without a process.
pub fn families(mut nft: Option<&mut Nft>, owner: &Owner) -> Vec<Iptables> {
    let chain = owner.masquerade_chain();
    [false, true]
        .map(Iptables::of)
        .into_iter()
        .filter(|iptables| {
            iptables.may_have_chain(nft.as_deref_mut(), TABLE, &chain) && iptables.is_installed()
        })
        .collect()
}

/// Removes the chain of one container and network and every jump to it: known by name, without its addresses.
pub fn remove(families: &[Iptables], owner: &Owner) -> Result<(), Error> {
    let chain = owner.masquerade_chain();
    for &iptables in families {
        let saved = iptables
            .save(TABLE)
            .map_err(failed("failed to read the masquerade rules"))?;
        drop_from(iptables, &saved, |found| found == chain)?;
    }
    Ok(())
}

/// Removes the chains of every container of the network that has no valid attachment.
pub fn retain(network: &str, valid: &[Owner]) -> Result<(), Error> {
    let prefix = masquerade_network_prefix(network);
    let valid: HashSet<String> = valid.iter().map(Owner::masquerade_chain).collect();
    for ipv6 in [false, true] {
        let iptables = Iptables::of(ipv6);
        if !iptables.is_installed() {
            continue;
        }
        let saved = iptables
            .save(TABLE)
            .map_err(failed("failed to read the masquerade rules"))?;
        let gone: HashSet<&str> = jumps(&saved)
            .filter(|jump| jump.comment.starts_with(&prefix) && !valid.contains(jump.chain))
            .map(|jump| jump.chain)
            .collect();
        drop_from(iptables, &saved, |chain| gone.contains(chain))?;
    }
    Ok(())
}

fn drop_from(iptables: Iptables, saved: &Saved, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
    iptables
        .restore(TABLE, &saved.removal(gone))
        .map_err(failed("failed to remove the masquerade rules"))
}

fn family(ips: &[IpConfig], ipv6: bool) -> Vec<&IpConfig> {
    ips.iter()
        .filter(|ip| ip.address.is_ipv6() == ipv6)
        .collect()
}

/// The rules of one family as they are saved: own subnet and multicast are left alone, all else is masqueraded.
fn rules(owner: &Owner, ips: &[&IpConfig]) -> Vec<String> {
    let chain = owner.masquerade_chain();
    let comment = format!(
        "-m comment --comment {}",
        quoted(&owner.masquerade_comment())
    );
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

/// As iptables-save quotes a comment.
fn quoted(comment: &str) -> String {
    format!("\"{}\"", comment.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What is missing of the chain and the rules. A subnet's exception goes before the rule that masquerades.
fn additions(owner: &Owner, rules: &[String], saved: &Saved) -> Vec<String> {
    let chain = owner.masquerade_chain();
    let mut lines = Vec::new();
    if !saved.chains.contains(&chain) {
        lines.push(format!("-N {chain}"));
    }
    for rule in rules.iter().filter(|rule| !saved.rules.contains(rule)) {
        let before = format!("-A {chain} -d ");
        lines.push(match rule.strip_prefix(&before) {
            Some(rest) => format!("-I {chain} -d {rest}"),
            None => rule.clone(),
        });
    }
    lines
}

/// A rule of POSTROUTING that jumps to a chain of ours.
struct Jump<'a> {
    chain: &'a str,
    /// unquoted
    comment: String,
}

fn jumps(saved: &Saved) -> impl Iterator<Item = Jump<'_>> {
    saved.rules.iter().filter_map(|line| {
        let rule = line.strip_prefix("-A ")?;
        rule.strip_prefix(POSTROUTING)?;
        let (_, chain) = rule.rsplit_once(" -j ")?;
        let comment = rule.split_once("--comment \"").map_or("", |(_, rest)| rest);
        (chain.starts_with("CNI-")).then(|| Jump {
            chain,
            comment: comment.replace("\\\"", "\""),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHAIN: &str = "CNI-2bbe0c48b91a7d1b8a6753a8";

    fn owner() -> Owner {
        Owner::new("test", "1234", "eth0")
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
    fn rules_are_upstreams() {
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
    fn a_second_interface_adds_what_is_missing() {
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
    fn removal_goes_by_the_chains_name() {
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
        assert!(saved.removal(|chain| chain == "CNI-nobody").is_empty());
    }

    #[test]
    fn a_jump_tells_its_network() {
        let saved = Saved {
            chains: Vec::new(),
            rules: rules(&owner(), &[&ip("fd00::5/64")]),
        };
        let found: Vec<_> = jumps(&saved).map(|jump| jump.comment).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&masquerade_network_prefix("test")));
        assert!(!found[0].starts_with(&masquerade_network_prefix("tes")));
    }

    const RULE: &str = "-A (POSTROUTING|CNI-x|OTHER)( -s [0-9.]{1,9})?( --comment \"[a-z\\\\\" ]{0,9}\")?( -j (CNI-x|CNI-y|OTHER))?";

    proptest! {
        /// Whatever a table holds: only lines about chains of ours are ever written.
        #[test]
        fn strangers_rules_are_left_alone(rules in prop::collection::vec(RULE, 0..8)) {
            let chains = ["CNI-x", "CNI-y", "OTHER"].map(str::to_owned).into();
            let saved = Saved { chains, rules };
            for line in saved.removal(|chain| chain == "CNI-x") {
                let jump = line.starts_with("-D ") && line.ends_with(" -j CNI-x");
                prop_assert!(jump || line == "-F CNI-x" || line == "-X CNI-x", "{}", line);
            }
        }
    }
}
