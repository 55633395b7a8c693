//! Masquerade and forward rules in iptables: upstream's chains, comments and rules in its order
//! (pkg/trafficmngr/iptables), in the words of `iptables-save`. Equal rules, as Go flanneld's, stay
//! as they are.

use super::{Nets, RuleSettings, nets_of};
use crate::model::{
    lease::Lease,
    network_config::NetworkConfig,
    rule_set::{RuleChain, RuleSet},
};
use packet_filter::Tables;

/// In a rule: the bit that kube-proxy sets on packets that it masquerades itself.
const KUBE_MASQ_MARK: &str = "-m mark --mark 0x4000/0x4000";
const MASQUERADE_COMMENT: &str = "-m comment --comment \"flanneld masq\"";
const FORWARD_COMMENT: &str = "-m comment --comment \"flanneld forward\"";

const NAT: &str = "nat";
const FILTER: &str = "filter";
const POSTROUTING: &str = "POSTROUTING";
const FORWARD: &str = "FORWARD";

const UPSTREAM_MASQUERADE: &str = "FLANNEL-POSTRTG";
const UPSTREAM_FORWARD: &str = "FLANNEL-FWD";
/// Of a second daemon, before the name of its device. With the longest such name this has the 28
/// characters that a chain's name may have.
const MASQUERADE_OF_DEVICE: &str = "FLANNEL-MASQ-";
const FORWARD_OF_DEVICE: &str = "FLANNEL-FWD-";
/// What the name of each device of ours begins with.
const DEVICE: &str = "flannel";

/// The chains of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainNames {
    pub(crate) masquerade: String,
    pub(crate) forward: String,
}

/// Lines for `iptables-restore`, by table.
pub(crate) type Lines = Vec<(&'static str, Vec<String>)>;

impl ChainNames {
    /// Upstream's names.
    pub(crate) fn upstream() -> ChainNames {
        ChainNames {
            masquerade: UPSTREAM_MASQUERADE.to_owned(),
            forward: UPSTREAM_FORWARD.to_owned(),
        }
    }

    /// Names for a second daemon of a host, by its device: `FLANNEL-MASQ-flannel.7`.
    pub(crate) fn of_device(device: &str) -> ChainNames {
        ChainNames {
            masquerade: format!("{MASQUERADE_OF_DEVICE}{device}"),
            forward: format!("{FORWARD_OF_DEVICE}{device}"),
        }
    }

    /// Each chain: its table, the built-in chain that leads to it, and its name.
    fn chains(&self) -> [(&'static str, &'static str, &str); 2] {
        [
            (NAT, POSTROUTING, &self.masquerade),
            (FILTER, FORWARD, &self.forward),
        ]
    }

    /// True if the chain is one of these.
    pub(crate) fn contains(&self, table: &str, chain: &str) -> bool {
        let mut chains = self.chains().into_iter();
        chains.any(|(of, _, name)| of == table && name == chain)
    }
}

/// True if a daemon of this host makes such a chain.
pub(crate) fn is_chain(table: &str, name: &str) -> bool {
    let of_device = match table {
        NAT => MASQUERADE_OF_DEVICE,
        FILTER => FORWARD_OF_DEVICE,
        _ => return false,
    };
    let device = name.strip_prefix(of_device);
    ChainNames::upstream().contains(table, name)
        || device.is_some_and(|device| device.starts_with(DEVICE))
}

/// The rules of both families; none of a family that the network does not have.
pub(crate) fn rule_sets(
    names: &ChainNames,
    config: &NetworkConfig,
    own: &Lease,
    settings: RuleSettings,
) -> Vec<RuleSet> {
    let nets = nets_of(config, own).into_iter();
    let sets = nets.zip([false, true]).map(|(nets, ipv6)| RuleSet {
        ipv6,
        chains: nets.map_or(Vec::new(), |nets| chains(names, nets, settings)),
    });
    sets.collect()
}

fn chains(names: &ChainNames, nets: Nets, settings: RuleSettings) -> Vec<RuleChain> {
    let Nets { network, .. } = nets;
    let masquerade = settings.masquerade.then(|| RuleChain {
        table: NAT,
        from: POSTROUTING,
        name: names.masquerade.clone(),
        rules: masquerade_rules(nets, settings.fully_random),
        jumps: vec![format!("{MASQUERADE_COMMENT} -j {}", names.masquerade)],
    });
    let forward = settings.forward.then(|| RuleChain {
        table: FILTER,
        from: FORWARD,
        name: names.forward.clone(),
        rules: vec![
            format!("-s {network} {FORWARD_COMMENT} -j ACCEPT"),
            format!("-d {network} {FORWARD_COMMENT} -j ACCEPT"),
        ],
        jumps: vec![format!("{FORWARD_COMMENT} -j {}", names.forward)],
    });
    masquerade.into_iter().chain(forward).collect()
}

fn masquerade_rules(nets: Nets, fully_random: bool) -> Vec<String> {
    let Nets {
        network,
        subnet,
        multicast,
    } = nets;
    let comment = MASQUERADE_COMMENT;
    let random = if fully_random { " --random-fully" } else { "" };
    vec![
        format!("{KUBE_MASQ_MARK} {comment} -j RETURN"),
        format!("-s {subnet} -d {network} {comment} -j RETURN"),
        format!("-s {network} -d {subnet} {comment} -j RETURN"),
        format!("! -s {network} -d {subnet} {comment} -j RETURN"),
        format!("-s {network} ! -d {multicast} {comment} -j MASQUERADE{random}"),
        format!("! -s {network} -d {network} {comment} -j MASQUERADE{random}"),
    ]
}

/// The rules of one family as `iptables-save` printed them.
pub(crate) fn observed(names: &ChainNames, ipv6: bool, tables: &Tables) -> RuleSet {
    let chain = |(table, from, name): (&'static str, &'static str, &str)| {
        let saved = tables.get(table)?;
        let owned = |rules: Vec<&str>| rules.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let jumps = owned(saved.jumps(from, name));
        Some(RuleChain {
            table,
            from,
            name: name.to_owned(),
            rules: owned(saved.rules_of(name)?),
            jumps,
        })
    };
    RuleSet {
        ipv6,
        chains: names.chains().into_iter().filter_map(chain).collect(),
    }
}

/// What leads from the saved tables to the wanted rules. Chains that are as wanted have no line. Of
/// equal jumps the last one stays, and a jump that is missing is appended.
pub(crate) fn lines(wanted: &RuleSet, names: &ChainNames, tables: &Tables) -> Lines {
    let observed = observed(names, wanted.ipv6, tables);
    let find =
        |set: &RuleSet, name: &str| set.chains.iter().find(|chain| chain.name == name).cloned();
    let of_chain = |(table, _, name): (&'static str, &'static str, &str)| {
        let lines = match (find(wanted, name), find(&observed, name)) {
            (Some(wanted), present) => chain_lines(&wanted, present.as_ref()),
            (None, Some(_)) => tables
                .get(table)
                .map_or(Vec::new(), |saved| saved.removal(|chain| chain == name)),
            (None, None) => Vec::new(),
        };
        (table, lines)
    };
    names.chains().into_iter().map(of_chain).collect()
}

fn chain_lines(wanted: &RuleChain, present: Option<&RuleChain>) -> Vec<String> {
    let RuleChain {
        table: _,
        from,
        name,
        rules,
        jumps,
    } = wanted;
    let mut lines = Vec::new();
    if present.is_none_or(|present| present.rules != *rules) {
        // makes the chain, or empties it
        lines.push(format!(":{name} - [0:0]"));
        lines.extend(rules.iter().map(|rule| format!("-A {name} {rule}")));
    }
    let observed = present.map_or(&[][..], |present| &present.jumps);
    for jump in jumps {
        // `-D` deletes the first of equal rules
        let surplus = observed.iter().filter(|found| *found == jump).skip(1);
        lines.extend(surplus.map(|found| format!("-D {from} {found}")));
    }
    let others = observed.iter().filter(|found| !jumps.contains(found));
    lines.extend(others.map(|found| format!("-D {from} {found}")));
    let missing = jumps.iter().filter(|jump| !observed.contains(jump));
    lines.extend(missing.map(|jump| format!("-A {from} {jump}")));
    lines
}

#[cfg(test)]
mod tests;
