//! iptables' filter table with upstream's chains and rules: one save and one restore for each
//! family and step.

use crate::{
    error::Failure,
    rule::{Rule, of_addresses},
};
use packet_filter::{Iptables, Nft, Saved};
use shared_names::firewall::{FORWARD_CHAIN, IPTABLES_TABLE as TABLE};
use std::{collections::BTreeSet, net::IpAddr};

/// Calls `work` for each family that has addresses, with these addresses.
pub(crate) fn each_family(
    ips: &[IpAddr],
    work: impl Fn(Iptables, &[IpAddr]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for ipv6 in [false, true] {
        let of_family = ips.iter().copied().filter(|ip| ip.is_ipv6() == ipv6);
        let of_family: Vec<_> = of_family.collect();
        if !of_family.is_empty() {
            work(Iptables::of(ipv6), &of_family)?;
        }
    }
    Ok(())
}

/// Adds the missing rules and their chains.
pub(crate) fn add(iptables: Iptables, rules: &[Rule]) -> Result<(), Failure> {
    iptables.change(TABLE, |saved| additions(saved, rules))?;
    Ok(())
}

/// Deletes every copy of the addresses' rules. Starts no process where their chain cannot exist.
pub(crate) fn delete(iptables: Iptables, ips: &[IpAddr]) -> Result<(), Failure> {
    // without nftables in the kernel, only the legacy iptables can have the chain
    let mut nft = Nft::open_if_supported()?;
    if !iptables.may_have_chain(nft.as_mut(), TABLE, FORWARD_CHAIN)? {
        return Ok(());
    }
    let rules: BTreeSet<_> = of_addresses(ips).map(|rule| rule.saved()).collect();
    iptables.change(TABLE, |saved| {
        let found = saved.rules.iter().filter(|line| rules.contains(*line));
        found.map(|line| line.replacen("-A", "-D", 1)).collect()
    })?;
    Ok(())
}

/// Err: the first missing rule in upstream's form, which names the chain of a rule with a comment
/// only.
pub(crate) fn check(iptables: Iptables, rules: &[Rule]) -> Result<(), Failure> {
    let saved = iptables.save(TABLE)?;
    let is_missing = |rule: &&Rule| !saved.rules.contains(&rule.saved());
    let Some(missing) = rules.iter().find(is_missing) else {
        return Ok(());
    };
    Err(Failure::MissingRule {
        place: match missing.text.contains("--comment") {
            true => format!("{} ", missing.chain),
            false => String::new(),
        },
        rule: missing.text.replace('"', ""),
    })
}

/// Lines that add the missing rules and their chains. A chain is created with -N, which fails if
/// another process created it meanwhile; the form `:CHAIN` would flush it.
fn additions(saved: &Saved, wanted: &[Rule]) -> Vec<String> {
    let mut missing_chains: Vec<&str> = Vec::new();
    for rule in wanted {
        for chain in [Some(rule.chain), rule.target_chain()]
            .into_iter()
            .flatten()
        {
            let exists = chain == "FORWARD" || saved.chains.iter().any(|name| name == chain);
            if !exists && !missing_chains.contains(&chain) {
                missing_chains.push(chain);
            }
        }
    }
    let is_missing = |rule: &&Rule| !saved.rules.contains(&rule.saved());
    let chains = missing_chains.iter().map(|chain| format!("-N {chain}"));
    let rules = wanted.iter().filter(is_missing).map(Rule::addition);
    chains.chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ingress::Policy, rule::allowing};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn empty_table_gets_all_chains_and_rules() {
        let lines = additions(&Saved::default(), &allowing("CNI-ADMIN", &[ip("10.0.0.2")]));
        assert_eq!(
            lines,
            [
                "-N CNI-FORWARD",
                "-N CNI-ADMIN",
                "-I FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
                "-I CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
                "-A CNI-FORWARD -d 10.0.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A CNI-FORWARD -s 10.0.0.2/32 -j ACCEPT",
            ]
        );
        let of_v6 = allowing("CNI-ADMIN", &[ip("fd00::2")]);
        assert_eq!(of_v6[3].text, "-s fd00::2/128 -j ACCEPT");
    }

    #[test]
    fn existing_chains_and_rules_are_not_added_again() {
        let everything = allowing("CNI-ADMIN", &[ip("10.0.0.2")]);
        let saved = Saved {
            chains: ["FORWARD", "CNI-FORWARD", "CNI-ADMIN"]
                .map(String::from)
                .into(),
            rules: everything.iter().map(Rule::saved).collect(),
        };
        assert!(additions(&saved, &everything).is_empty());
        let one_more = allowing("CNI-ADMIN", &[ip("10.0.0.2"), ip("10.0.0.3")]);
        assert_eq!(additions(&saved, &one_more).len(), 2);
        let mut without_chain = saved;
        without_chain.chains.retain(|chain| chain != "CNI-ADMIN");
        assert_eq!(additions(&without_chain, &everything), ["-N CNI-ADMIN"]);
    }

    #[test]
    fn isolation_adds_its_chains_and_rules() {
        let lines = additions(&Saved::default(), &Policy::Isolated.rules("cni0"));
        let policy = "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: isolated)\"";
        let both = "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)\"";
        let expected = [
            "-N CNI-ISOLATION-STAGE-1".to_owned(),
            "-N CNI-ISOLATION-STAGE-2".to_owned(),
            format!("-I FORWARD {both} -j CNI-ISOLATION-STAGE-1"),
            format!("-I CNI-ISOLATION-STAGE-1 -i cni0 ! -o cni0 {policy} -j CNI-ISOLATION-STAGE-2"),
            format!("-I CNI-ISOLATION-STAGE-1 -i cni0 -o cni0 {policy} -j DROP"),
            format!("-A CNI-ISOLATION-STAGE-1 {both} -j RETURN"),
            format!("-I CNI-ISOLATION-STAGE-2 -o cni0 {both} -j DROP"),
            format!("-A CNI-ISOLATION-STAGE-2 {both} -j RETURN"),
        ];
        assert_eq!(lines, expected);
    }
}
